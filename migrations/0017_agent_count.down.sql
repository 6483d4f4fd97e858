DELETE FROM schema_support WHERE migration = 17;
DROP TRIGGER agents_count_deleted ON agents;
DROP TRIGGER agents_count_inserted ON agents;
DROP FUNCTION record_agent_count_change();
DROP TABLE agent_count_changes;
ALTER TABLE workspaces DROP COLUMN agent_count;
