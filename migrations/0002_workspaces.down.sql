DELETE FROM schema_support WHERE migration = 2;
DROP TABLE api_keys;
DROP TABLE workspaces;
