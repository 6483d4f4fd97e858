-- Agents as operators see them. What a heartbeat changes lives in agent_liveness.

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE agents (
    id            uuid   PRIMARY KEY DEFAULT new_ulid(),
    workspace_id  uuid   NOT NULL REFERENCES workspaces,
    label         text   NOT NULL,
    -- Lower case by Unicode, computed by the program, so that the filter is the same under any locale.
    label_key     text   NOT NULL,
    platform      text   NOT NULL CHECK (platform IN ('linux', 'windows', 'macos')),
    status        text   NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'active', 'revoked')),
    tags          text[] NOT NULL DEFAULT '{}',
    -- json, not jsonb: it comes back to the letter.
    metadata      json   NOT NULL DEFAULT '{}',
    version       text,
    capabilities  text[] NOT NULL DEFAULT '{}',
    hostname      text,
    instance_id   text,
    last_error    text,
    enrolled_at   timestamptz,
    revoked_at    timestamptz,
    revoke_reason text,
    CHECK ((status = 'revoked') = (revoked_at IS NOT NULL))
);

CREATE INDEX agents_by_workspace ON agents (workspace_id, id);
CREATE INDEX agents_by_status ON agents (workspace_id, status, id);
CREATE INDEX agents_by_label ON agents USING gin (label_key gin_trgm_ops);

INSERT INTO schema_support VALUES (3, '{0,1,0}');
