-- migrate:up

-- Who may call and what they did: beside the view, so that a rebuild throws none of it away.

ALTER TABLE access.api_keys
    ADD COLUMN expires_at   timestamptz,
    -- Noted every few seconds, not at each call.
    ADD COLUMN last_used_at timestamptz;

CREATE TABLE access.users (
    name          text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9._@-]{0,63}$'),
    -- Argon2id, with its salt and its cost.
    password_hash text        NOT NULL,
    role          text        NOT NULL CHECK (role IN ('purchaser', 'viewer', 'operator', 'admin')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_login_at timestamptz,
    disabled_at   timestamptz
);

CREATE TABLE access.sessions (
    -- SHA-256 of the cookie's 256 random bits.
    token_hash bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    user_name  text        NOT NULL REFERENCES access.users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX sessions_user_name ON access.sessions (user_name);

-- Failed logins in a row, by account and by address; a subject that waits long enough begins anew.
CREATE TABLE access.login_failures (
    subject       text PRIMARY KEY,
    failures      int         NOT NULL,
    failed_at     timestamptz NOT NULL DEFAULT now(),
    blocked_until timestamptz NOT NULL DEFAULT '-infinity'
);

CREATE TABLE access.audit (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    -- A key's id, `user:NAME`, `local`, `command-line`, `anyone`.
    actor   text        NOT NULL,
    action  text        NOT NULL,
    target  text        NOT NULL DEFAULT '',
    address text        NOT NULL DEFAULT '',
    detail  jsonb       NOT NULL DEFAULT '{}'
);

CREATE INDEX audit_actor ON access.audit (actor, id);
CREATE INDEX audit_action ON access.audit (action, id);
CREATE INDEX audit_target ON access.audit (target, id);

CREATE FUNCTION access.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'access.audit is only added to';
END
$$;

CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE ON access.audit
    FOR EACH ROW EXECUTE FUNCTION access.refuse_change();

-- migrate:down

DROP TABLE access.audit;
DROP FUNCTION access.refuse_change();
DROP TABLE access.login_failures, access.sessions, access.users;
ALTER TABLE access.api_keys DROP COLUMN expires_at, DROP COLUMN last_used_at;
