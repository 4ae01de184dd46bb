-- migrate:up

-- Who may call, and what they have asked for. Unlike the view in `public` it cannot be rebuilt from Kafka: back it up.
CREATE SCHEMA access;

CREATE TABLE access.api_keys (
    id          text PRIMARY KEY,
    -- SHA-256 of the secret: 256 random bits need no slow hash, for there is nothing to guess from.
    secret_hash bytea       NOT NULL CHECK (octet_length(secret_hash) = 32),
    role        text        NOT NULL CHECK (role IN ('purchaser', 'viewer', 'operator', 'admin')),
    account     text        NOT NULL,
    note        text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz
);

CREATE TABLE access.idempotency_keys (
    account     text        NOT NULL,
    key         text        NOT NULL,
    -- Of what was bought; another purchase under the same key is refused.
    fingerprint bytea       NOT NULL,
    -- OrderCreated as first made: a repeat writes the same bytes.
    event       bytea       NOT NULL,
    -- Acknowledged by Kafka.
    done        boolean     NOT NULL DEFAULT false,
    claimed_at  timestamptz NOT NULL DEFAULT now(),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, key)
);

CREATE INDEX idempotency_keys_created_at ON access.idempotency_keys (created_at);

-- migrate:down

DROP SCHEMA access CASCADE;
