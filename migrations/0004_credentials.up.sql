-- Every secret ever issued to an agent, by its SHA-256. They are kept until the agent is deleted, so
-- that a refusal can say what became of the one presented.

CREATE TABLE enrollment_tokens (
    digest        bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    agent_id      uuid  NOT NULL REFERENCES agents ON DELETE CASCADE,
    issued_at     timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    used_at       timestamptz,
    superseded_at timestamptz
);

CREATE INDEX enrollment_tokens_by_agent ON enrollment_tokens (agent_id);

CREATE TABLE agent_credentials (
    digest         bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    agent_id       uuid  NOT NULL REFERENCES agents ON DELETE CASCADE,
    issued_at      timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL,
    retired_at     timestamptz,
    retired_reason text CHECK (retired_reason IN ('revoked', 'replaced')),
    CHECK ((retired_at IS NULL) = (retired_reason IS NULL))
);

CREATE INDEX agent_credentials_by_agent ON agent_credentials (agent_id);

INSERT INTO schema_support VALUES (4, '{0,1,0}');
