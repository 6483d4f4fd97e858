-- no-transaction
DELETE FROM schema_support WHERE migration = 16;
CREATE INDEX CONCURRENTLY IF NOT EXISTS api_keys_by_workspace ON api_keys (workspace_id, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS events_by_workspace ON events (workspace_id, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS events_by_type ON events (workspace_id, type, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS events_by_agent ON events (agent_id, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS agent_liveness_connected_by_id
    ON agent_liveness (workspace_id, agent_id) WHERE connected_since IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS agents_by_workspace ON agents (workspace_id, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS agents_by_platform ON agents (workspace_id, platform, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS agents_by_status ON agents (workspace_id, status, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS agents_by_tags ON agents USING gin (tags);
CREATE INDEX CONCURRENTLY IF NOT EXISTS agents_by_label ON agents USING gin (label_key gin_trgm_ops);
