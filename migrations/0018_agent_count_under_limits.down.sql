DELETE FROM schema_support WHERE migration = 18;
