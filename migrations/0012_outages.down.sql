DELETE FROM schema_support WHERE migration = 12;
DROP TABLE control_plane_outages;
DROP FUNCTION outage_amnesty(interval);
DROP FUNCTION outage_threshold();
