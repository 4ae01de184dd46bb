-- migrate:up

-- How each provider stands, and what was left with it in the course of time. As in the first migration, no index is named.

CREATE TABLE providers (
    name varchar PRIMARY KEY,
    state varchar NOT NULL CHECK (state IN ('up', 'suspended')),
    why text,
    -- 'provider' or 'operator': who brought it about.
    brought_by varchar,
    actor varchar,
    command_id varchar,
    since timestamptz NOT NULL,
    next_probe_at timestamptz,
    available_mb bigint,
    reserved_mb bigint,
    balance_at timestamptz,
    at timestamptz NOT NULL
);

-- The last balance of every five minutes. Its topic keeps only the latest: a rebuild takes these over.
CREATE TABLE provider_balances (
    provider varchar NOT NULL,
    start timestamptz NOT NULL,
    available_mb bigint NOT NULL,
    reserved_mb bigint NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (provider, start)
);

-- migrate:down

DROP TABLE provider_balances, providers;
