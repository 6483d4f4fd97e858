-- no-transaction
-- Indexes that begin with the workspace, for every list that an operator asks for.
--
-- The lists are in the order of `uuid_send(id)`, which is the order of `id`. The primary keys cover `id` over all
-- workspaces; with `ORDER BY id` the planner may walk one of them and filter by workspace, which reads the rows
-- of others. No index but these is in the order of `uuid_send(id)`.

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS agents_by_position ON agents (workspace_id, uuid_send(id));
CREATE INDEX CONCURRENTLY IF NOT EXISTS agents_by_status_position
    ON agents (workspace_id, status, uuid_send(id));
CREATE INDEX CONCURRENTLY IF NOT EXISTS agents_by_platform_position
    ON agents (workspace_id, platform, uuid_send(id));

-- Without a list of pending entries, which every search would have to read, whichever workspace they are from.
CREATE INDEX CONCURRENTLY IF NOT EXISTS agents_by_search
    ON agents USING gin (agent_search_keys(workspace_id, label_key, tags)) WITH (fastupdate = off);

CREATE INDEX CONCURRENTLY IF NOT EXISTS agent_liveness_connected_position
    ON agent_liveness (workspace_id, uuid_send(agent_id)) WHERE connected_since IS NOT NULL;

CREATE INDEX CONCURRENTLY IF NOT EXISTS events_by_position ON events (workspace_id, uuid_send(id));
CREATE INDEX CONCURRENTLY IF NOT EXISTS events_by_agent_position
    ON events (workspace_id, agent_id, uuid_send(id));
CREATE INDEX CONCURRENTLY IF NOT EXISTS events_by_type_position ON events (workspace_id, type, uuid_send(id));

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS api_keys_by_position ON api_keys (workspace_id, uuid_send(id));

INSERT INTO schema_support VALUES (14, '{0,2,0}') ON CONFLICT DO NOTHING;
