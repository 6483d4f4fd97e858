-- A registration or an enrollment whose answer got lost can be asked for again. No secret is kept for it.

CREATE TABLE idempotency_keys (
    workspace_id uuid  NOT NULL REFERENCES workspaces,
    route        text  NOT NULL,
    key          text  NOT NULL,
    body_sha256  bytea NOT NULL CHECK (octet_length(body_sha256) = 32),
    agent_id     uuid  NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, route, key)
);

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- Until it first enrolls or is revoked, a repeated registration may hand out a fresh token.
ALTER TABLE agents ADD COLUMN first_pending boolean NOT NULL DEFAULT true;
UPDATE agents SET first_pending = false WHERE status <> 'pending' OR enrolled_at IS NOT NULL;

-- What the token was used with, and the credential that it bought.
ALTER TABLE enrollment_tokens
    ADD COLUMN idempotency_key text,
    ADD COLUMN credential      bytea;

INSERT INTO schema_support VALUES (9, '{0,2,0}');
