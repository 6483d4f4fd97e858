-- Counts the agents of the workspaces that have a limit already.

-- Two statements: the second sees what was committed while the first waited.
SELECT id FROM workspaces WHERE max_agents IS NOT NULL ORDER BY id FOR UPDATE;
WITH counted_now AS (
    DELETE FROM agent_count_changes
)
UPDATE workspaces SET agent_count = (SELECT count(*) FROM agents WHERE workspace_id = workspaces.id)
WHERE max_agents IS NOT NULL;

INSERT INTO schema_support VALUES (18, '{0,2,0}');
