-- no-transaction
DELETE FROM schema_support WHERE migration = 14;
DROP INDEX CONCURRENTLY IF EXISTS api_keys_by_position;
DROP INDEX CONCURRENTLY IF EXISTS events_by_type_position;
DROP INDEX CONCURRENTLY IF EXISTS events_by_agent_position;
DROP INDEX CONCURRENTLY IF EXISTS events_by_position;
DROP INDEX CONCURRENTLY IF EXISTS agent_liveness_connected_position;
DROP INDEX CONCURRENTLY IF EXISTS agents_by_search;
DROP INDEX CONCURRENTLY IF EXISTS agents_by_platform_position;
DROP INDEX CONCURRENTLY IF EXISTS agents_by_status_position;
DROP INDEX CONCURRENTLY IF EXISTS agents_by_position;
