DELETE FROM schema_support WHERE migration = 8;
DROP INDEX agents_by_tags;
DROP INDEX agents_by_platform;
