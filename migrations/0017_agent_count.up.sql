-- The number of a workspace's agents, for workspaces with a limit, so that a registration does not count them.
--
-- The number is `workspaces.agent_count` plus the workspace's `agent_count_changes`. Registering and deleting
-- only add a row there, so a deletion never waits for a registration that holds the workspace's row. A
-- registration under a limit holds that row, moves the changes into the number and compares it.
--
-- A workspace without a limit has no number. It is counted when its limit is set, under FOR UPDATE on its row,
-- which waits for every transaction in which the trigger has run, and makes later ones wait.

ALTER TABLE workspaces ADD COLUMN agent_count bigint NOT NULL DEFAULT 0;

CREATE TABLE agent_count_changes (
    workspace_id uuid   NOT NULL,
    change       bigint NOT NULL
);

CREATE INDEX agent_count_changes_by_workspace ON agent_count_changes (workspace_id);

-- With the rights of the schema's owner, so that replicas of the previous version go on before the rights of the
-- service's own role on the new table are granted.
CREATE FUNCTION record_agent_count_change() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    -- The lock comes first, so that the statement after it sees the newest limit, which says whether to count.
    PERFORM FROM workspaces WHERE id IN (SELECT workspace_id FROM changed) ORDER BY id FOR KEY SHARE;
    INSERT INTO agent_count_changes (workspace_id, change)
    SELECT w.id, CASE TG_OP WHEN 'INSERT' THEN count(*) ELSE -count(*) END
    FROM changed JOIN workspaces w ON w.id = changed.workspace_id
    WHERE w.max_agents IS NOT NULL GROUP BY w.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER agents_count_inserted AFTER INSERT ON agents
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION record_agent_count_change();
CREATE TRIGGER agents_count_deleted AFTER DELETE ON agents
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION record_agent_count_change();

INSERT INTO schema_support VALUES (17, '{0,2,0}');
