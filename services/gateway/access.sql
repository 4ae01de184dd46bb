-- Each query has a name and a line on why. Whoever changes something is noted in the same statement.

-- name: key
-- Who a key belongs to, and what its secret must hash to.
SELECT id, secret_hash, role, account, expires_at
FROM access.api_keys
WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- name: create_key
WITH made AS (
    INSERT INTO access.api_keys (id, secret_hash, role, account, note, expires_at)
    VALUES ($3, $4, $5, $6, $7, $8)
    RETURNING *
), noted AS (
    INSERT INTO access.audit (actor, address, action, target, detail)
    SELECT $1, $2, 'key_created', id,
           jsonb_build_object('role', role, 'account', account, 'name', note, 'expires_at', expires_at)
    FROM made
)
SELECT id, note AS name, role, account, created_at, expires_at, last_used_at, revoked_at FROM made;

-- name: list_keys
SELECT id, note AS name, role, account, created_at, expires_at, last_used_at, revoked_at
FROM access.api_keys
ORDER BY created_at, id;

-- name: revoke_key
-- Tells every gateway at once; their caches would else honour the key for seconds more.
WITH revoked AS (
    UPDATE access.api_keys SET revoked_at = now()
    WHERE id = $3 AND revoked_at IS NULL
    RETURNING id
), noted AS (
    INSERT INTO access.audit (actor, address, action, target)
    SELECT $1, $2, 'key_revoked', id FROM revoked
)
SELECT id, pg_notify('access_changed', id) FROM revoked;

-- name: keys_used
-- Every few seconds for all that were used since; two gateways may have seen the same key.
UPDATE access.api_keys AS k SET last_used_at = GREATEST(k.last_used_at, used.at)
FROM unnest($1::text[], $2::timestamptz[]) AS used (id, at)
WHERE k.id = used.id;

-- name: create_user
-- No row where the name is taken.
WITH made AS (
    INSERT INTO access.users (name, password_hash, role) VALUES ($3, $4, $5)
    ON CONFLICT DO NOTHING
    RETURNING *
), noted AS (
    INSERT INTO access.audit (actor, address, action, target, detail)
    SELECT $1, $2, 'user_created', name, jsonb_build_object('role', role) FROM made
)
SELECT name, role, created_at, last_login_at, disabled_at FROM made;

-- name: list_users
SELECT name, role, created_at, last_login_at, disabled_at FROM access.users ORDER BY name;

-- name: change_user
-- Null leaves as it is. A new password or a disabled user ends the sessions; streams are told to ask again.
WITH changed AS (
    UPDATE access.users SET
        role = COALESCE($4::text, role),
        password_hash = COALESCE($5::text, password_hash),
        disabled_at = CASE WHEN $6::boolean IS NULL THEN disabled_at WHEN $6 THEN COALESCE(disabled_at, now()) END,
        credential = credential + CASE WHEN $5 IS NOT NULL OR $6 IS TRUE THEN 1 ELSE 0 END
    WHERE name = $3
    RETURNING *
), ended AS (
    DELETE FROM access.sessions WHERE user_name = $3 AND ($5 IS NOT NULL OR $6 IS TRUE)
), cleared AS (
    DELETE FROM access.login_failures WHERE subject = 'user:' || $3 AND $5 IS NOT NULL
), noted AS (
    INSERT INTO access.audit (actor, address, action, target, detail)
    SELECT $1, $2, 'user_changed', name,
           jsonb_strip_nulls(jsonb_build_object('role', $4, 'disabled', $6))
           || jsonb_build_object('password', $5 IS NOT NULL)
    FROM changed
)
SELECT name, role, created_at, last_login_at, disabled_at, pg_notify('access_changed', 'user:' || name) FROM changed;

-- name: change_own_password
-- No row where it is no longer the password that was proven. Ends the user's other sessions; streams ask again.
WITH changed AS (
    UPDATE access.users SET password_hash = $5, credential = credential + 1
    WHERE name = $3 AND password_hash = $6 AND disabled_at IS NULL
    RETURNING name, credential
), kept AS (
    UPDATE access.sessions AS s SET credential = changed.credential FROM changed WHERE s.token_hash = $4
), ended AS (
    DELETE FROM access.sessions WHERE user_name IN (SELECT name FROM changed) AND token_hash <> $4
), cleared AS (
    DELETE FROM access.login_failures WHERE subject IN (SELECT 'user:' || name FROM changed)
), eased AS (
    UPDATE access.login_failures SET failures = GREATEST(0, failures - 1), blocked_until = '-infinity'
    WHERE subject = 'address:' || $7::text AND EXISTS (SELECT FROM changed)
), noted AS (
    INSERT INTO access.audit (actor, address, action, target) SELECT $1, $2, 'password_changed', name FROM changed
)
SELECT name, pg_notify('access_changed', 'user:' || name) FROM changed;

-- name: forget_audit
-- A batch of the oldest lines; how many were older than $1 seconds.
SELECT access.forget_audit(now() - make_interval(secs => $1), $2) AS forgotten;

-- name: password_of
SELECT password_hash FROM access.users WHERE name = $1 AND disabled_at IS NULL;

-- name: try_login
-- Counts the attempt as failed before the password is looked at, so that a hundred at once are a hundred. Whoever is
-- blocked is not counted, nor does an address that is blocked count against anybody. After 5 failures in a row of a user,
-- 20 from an address, the wait doubles from 1 s on: to 15 min for an address, to 30 s for a user, whom strangers could
-- else keep out.
WITH counted AS (
    INSERT INTO access.login_failures AS f (subject, failures)
    SELECT subject, 1 FROM unnest(ARRAY['address:' || $2::text, 'user:' || $1::text]) AS subject
    WHERE subject LIKE 'address:%' OR NOT EXISTS (
        SELECT FROM access.login_failures WHERE subject = 'address:' || $2 AND blocked_until > now()
    )
    ON CONFLICT (subject) DO UPDATE SET
        failures = CASE WHEN f.failed_at < now() - interval '1 hour' THEN 1 ELSE f.failures + 1 END,
        failed_at = now(),
        blocked_until = CASE
            WHEN f.failed_at < now() - interval '1 hour' THEN '-infinity'
            WHEN f.failures + 1 < CASE WHEN f.subject LIKE 'user:%' THEN 5 ELSE 20 END THEN '-infinity'
            WHEN f.subject LIKE 'user:%' THEN now() + interval '1 s' * LEAST(30, 2 ^ LEAST(10, f.failures - 4))
            ELSE now() + interval '1 s' * LEAST(900, 2 ^ LEAST(10, f.failures - 19))
        END
    WHERE f.blocked_until <= now()
    RETURNING subject
)
SELECT (SELECT count(*) = 2 FROM counted) AS allowed,
       u.name, u.role, u.password_hash, u.credential,
       GREATEST(1, (
           SELECT ceil(EXTRACT(epoch FROM max(blocked_until) - now())) FROM access.login_failures
           WHERE subject IN ('address:' || $2, 'user:' || $1) AND blocked_until > now()
       ))::int AS wait_s
FROM (SELECT) AS one
LEFT JOIN access.users AS u ON u.name = $1 AND u.disabled_at IS NULL;

-- name: begin_session
-- No row where the password is no longer the one that was proven. The session that the browser had before ends; what was
-- counted as failed beforehand is taken back.
WITH proven AS (
    UPDATE access.users SET last_login_at = now(), password_hash = COALESCE($6, password_hash)
    WHERE name = $3 AND credential = $8 AND disabled_at IS NULL
    RETURNING name, credential
), made AS (
    INSERT INTO access.sessions (token_hash, user_name, credential) SELECT $4, name, credential FROM proven
), replaced AS (
    DELETE FROM access.sessions WHERE token_hash = $5 AND EXISTS (SELECT FROM proven)
), cleared AS (
    DELETE FROM access.login_failures WHERE subject IN (SELECT 'user:' || name FROM proven)
), eased AS (
    UPDATE access.login_failures SET failures = GREATEST(0, failures - 1), blocked_until = '-infinity'
    WHERE subject = 'address:' || $7::text AND EXISTS (SELECT FROM proven)
), noted AS (
    INSERT INTO access.audit (actor, address, action, target) SELECT $1, $2, 'login', name FROM proven
)
SELECT name FROM proven;

-- name: session
-- Whose it is, while it lives; that it was used is noted now and then.
WITH live AS (
    SELECT s.token_hash, s.seen_at, u.name, u.role,
        LEAST($2, extract(epoch FROM s.created_at - now()) + $3)::float8 AS lives_s
    FROM access.sessions AS s
    JOIN access.users AS u ON u.name = s.user_name
    WHERE s.token_hash = $1 AND u.disabled_at IS NULL AND s.credential = u.credential
      AND s.seen_at > now() - make_interval(secs => $2)
      AND s.created_at > now() - make_interval(secs => $3)
), noted AS (
    UPDATE access.sessions AS s SET seen_at = now()
    FROM live
    WHERE s.token_hash = live.token_hash AND live.seen_at < now() - make_interval(secs => $2 / 20)
)
SELECT name, role, lives_s FROM live;

-- name: end_session
WITH ended AS (
    DELETE FROM access.sessions WHERE token_hash = $3 RETURNING user_name
), noted AS (
    INSERT INTO access.audit (actor, address, action, target) SELECT $1, $2, 'logout', user_name FROM ended
)
SELECT user_name, pg_notify('access_changed', 'user:' || user_name) FROM ended;

-- name: forget_sessions
-- Those that have ended by themselves, and failures that nobody counts any more.
WITH sessions AS (
    DELETE FROM access.sessions
    WHERE seen_at < now() - make_interval(secs => $1) OR created_at < now() - make_interval(secs => $2)
)
DELETE FROM access.login_failures WHERE failed_at < now() - interval '1 day' AND blocked_until < now();

-- name: note
INSERT INTO access.audit (actor, address, action, target, detail) VALUES ($1, $2, $3, $4, $5);

-- name: audit
SELECT id, at, actor, action, target, address, detail
FROM access.audit
WHERE ($1::text IS NULL OR actor = $1)
  AND ($2::text IS NULL OR action = $2)
  AND ($3::text IS NULL OR target = $3)
  AND ($4::timestamptz IS NULL OR at >= $4)
  AND ($5::timestamptz IS NULL OR at < $5)
  AND ($6::bigint IS NULL OR id < $6)
ORDER BY id DESC
LIMIT $7;

-- name: claim_replays
-- Who comes first sends a dead letter back; from one that died over it another takes it after 30 s. No row: somebody
-- else has it, or sent it back already.
WITH wanted AS (
    SELECT * FROM unnest($4::int[], $5::bigint[], $6::timestamptz[]) AS wanted (partition, "offset", at)
), claimed AS (
    INSERT INTO access.replays AS known (partition, "offset", at, actor, reason, claimed_at)
    SELECT partition, "offset", at, $1::text, $3::text, now() FROM wanted
    ON CONFLICT (partition, "offset", at) DO UPDATE
    SET actor = excluded.actor, reason = excluded.reason, claimed_at = now()
    WHERE (known.claimed_at IS NULL OR known.claimed_at < now() - interval '30 s') AND (known.times = 0 OR $7)
    RETURNING partition, "offset"
), noted AS (
    INSERT INTO access.audit (actor, address, action, target, detail)
    SELECT $1::text, $2, 'replay', partition || '-' || "offset", jsonb_build_object('reason', $3::text) FROM claimed
)
SELECT partition, "offset" FROM claimed;

-- name: settle_replays
-- Kafka has them ($4), or surely not.
UPDATE access.replays AS known
SET claimed_at = NULL,
    times = CASE WHEN $4 THEN known.times + 1 ELSE known.times END,
    replayed_at = CASE WHEN $4 THEN now() ELSE known.replayed_at END
FROM unnest($1::int[], $2::bigint[], $3::timestamptz[]) AS done (partition, "offset", at)
WHERE known.partition = done.partition AND known."offset" = done."offset" AND known.at = done.at;
