-- A workspace is one customer: everything else belongs to one.

CREATE TABLE workspaces (
    id         uuid PRIMARY KEY DEFAULT new_ulid(),
    slug       text NOT NULL,
    name       text NOT NULL,
    max_agents int  CHECK (max_agents >= 0),
    CONSTRAINT workspaces_slug_key UNIQUE (slug)
);

-- API keys are looked up by the public id that the key shows. Beside the Argon2id hash stand the first
-- four bytes of the key's SHA-256, so that a bogus key is turned down without the slow hash.
CREATE TABLE api_keys (
    id           uuid PRIMARY KEY DEFAULT new_ulid(),
    workspace_id uuid   NOT NULL REFERENCES workspaces,
    name         text   NOT NULL,
    scopes       text[] NOT NULL CHECK (scopes <@ '{agents:read,agents:write,admin:organization}'),
    argon2       text   NOT NULL,
    sha256_check bytea  NOT NULL CHECK (octet_length(sha256_check) = 4),
    expires_at   timestamptz,
    revoked_at   timestamptz
);

CREATE INDEX api_keys_by_workspace ON api_keys (workspace_id, id);

INSERT INTO schema_support VALUES (2, '{0,1,0}');
