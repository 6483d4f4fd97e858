DROP TABLE schema_support;
DROP FUNCTION new_ulid(timestamptz);
