DELETE FROM schema_support WHERE migration = 4;
DROP TABLE agent_credentials;
DROP TABLE enrollment_tokens;
