DELETE FROM schema_support WHERE migration = 5;
DROP FUNCTION is_connected(timestamptz, timestamptz, interval);
DROP TABLE agent_liveness;
