DELETE FROM schema_support WHERE migration = 19;
ALTER TABLE agents RESET (fillfactor);
