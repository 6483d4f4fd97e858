DELETE FROM schema_support WHERE migration = 6;
DROP TABLE events;
DROP FUNCTION refuse_change_of_events();
