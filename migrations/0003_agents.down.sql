DELETE FROM schema_support WHERE migration = 3;
DROP TABLE agents;
DROP EXTENSION IF EXISTS pg_trgm;
