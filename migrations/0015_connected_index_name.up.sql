-- The index of connected agents keeps its name, by which the gauge of connected agents finds its statistics.

ALTER INDEX agent_liveness_connected RENAME TO agent_liveness_connected_by_id;
ALTER INDEX agent_liveness_connected_position RENAME TO agent_liveness_connected;

INSERT INTO schema_support VALUES (15, '{0,2,0}');
