DELETE FROM schema_support WHERE migration = 15;
ALTER INDEX agent_liveness_connected RENAME TO agent_liveness_connected_position;
ALTER INDEX agent_liveness_connected_by_id RENAME TO agent_liveness_connected;
