DELETE FROM schema_support WHERE migration = 10;
ALTER TABLE api_keys DROP COLUMN last_used_at;
