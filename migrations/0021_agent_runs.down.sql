DELETE FROM schema_support WHERE migration = 21;
ALTER TABLE agent_liveness DROP COLUMN run_hash;
