-- Each query has a name and a line on why.

-- name: claim
-- The first to come owns the purchase; 30 s later whoever repeats it takes over from an owner that died, with the
-- event that the first one made. No row: `earlier` says what is known.
INSERT INTO access.idempotency_keys (account, key, fingerprint, event)
SELECT $1, $2, $3, $4
WHERE NOT EXISTS (SELECT FROM public.orders WHERE id = $5)
ON CONFLICT (account, key) DO UPDATE SET claimed_at = now()
WHERE NOT idempotency_keys.done
  AND idempotency_keys.claimed_at < now() - make_interval(secs => $6)
  AND idempotency_keys.fingerprint = excluded.fingerprint
RETURNING event;

-- name: earlier
-- What an Idempotency-Key stands for already: from its claim, or, where that was never made or is cleaned up, from
-- the order itself, which the view remembers.
SELECT claim.event, claim.done,
       GREATEST(0, $4 - EXTRACT(epoch FROM now() - claim.claimed_at))::float8 AS fresh_for_s,
       o.id::text AS order_id, o.network, o.size_mb, o.phone_number, o.price, o.package_id, o.created_at
FROM (SELECT) AS one
LEFT JOIN access.idempotency_keys AS claim ON claim.account = $1 AND claim.key = $2
LEFT JOIN public.orders AS o ON o.id = $3;

-- name: settle_claim
-- The order is in the log: from now on the key is answered from here.
UPDATE access.idempotency_keys SET done = true WHERE account = $1 AND key = $2;

-- name: release_claim
-- Kafka did not acknowledge: the next repeat need not wait until the claim is stale.
UPDATE access.idempotency_keys SET claimed_at = 'epoch' WHERE account = $1 AND key = $2 AND NOT done;

-- name: forget_claims
DELETE FROM access.idempotency_keys WHERE created_at < now() - make_interval(secs => $1);

-- name: fulfillment
-- The row as the projector left it.
SELECT * FROM public.fulfillment_logs WHERE order_id = $1;

-- name: followed
-- The events that may be of a command: where another's came after them, the row does not tell of it any more.
SELECT value FROM public.events WHERE order_id = $1 AND position(convert_to($2, 'UTF8') IN value) > 0 ORDER BY "offset";

-- name: probe
-- PostgreSQL answers, and the tables that the gateway needs are there.
SELECT FROM access.api_keys, access.users, access.sessions, access.audit, access.idempotency_keys, public.orders, public.fulfillment_logs LIMIT 0;
