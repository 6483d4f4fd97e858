DELETE FROM schema_support WHERE migration = 13;
DROP FUNCTION agent_search_keys(uuid, text, text[]);
