-- migrate:up

-- A session is good for the password with which it was begun, and for no time in which its user was disabled: also one
-- that is begun while either changes.
ALTER TABLE access.users ADD COLUMN credential integer NOT NULL DEFAULT 1;
ALTER TABLE access.sessions ADD COLUMN credential integer NOT NULL DEFAULT 1;

-- migrate:down

ALTER TABLE access.sessions DROP COLUMN credential;
ALTER TABLE access.users DROP COLUMN credential;
