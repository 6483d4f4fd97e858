-- The list's filters by platform and tag, each with an index of its own.

CREATE INDEX agents_by_platform ON agents (workspace_id, platform, id);
CREATE INDEX agents_by_tags ON agents USING gin (tags);

INSERT INTO schema_support VALUES (8, '{0,2,0}');
