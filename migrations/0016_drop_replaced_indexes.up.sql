-- no-transaction
-- The indexes that those of migration 14 replace. A search of an older program goes through its workspace's
-- agents from now on. The extension pg_trgm stays: the database may have other uses for it.

DROP INDEX CONCURRENTLY IF EXISTS agents_by_label;
DROP INDEX CONCURRENTLY IF EXISTS agents_by_tags;
DROP INDEX CONCURRENTLY IF EXISTS agents_by_status;
DROP INDEX CONCURRENTLY IF EXISTS agents_by_platform;
DROP INDEX CONCURRENTLY IF EXISTS agents_by_workspace;
DROP INDEX CONCURRENTLY IF EXISTS agent_liveness_connected_by_id;
DROP INDEX CONCURRENTLY IF EXISTS events_by_agent;
DROP INDEX CONCURRENTLY IF EXISTS events_by_type;
DROP INDEX CONCURRENTLY IF EXISTS events_by_workspace;
DROP INDEX CONCURRENTLY IF EXISTS api_keys_by_workspace;

INSERT INTO schema_support VALUES (16, '{0,2,0}') ON CONFLICT DO NOTHING;
