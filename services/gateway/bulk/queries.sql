-- Each query has a name and a line on why. What stands in braces is put together by selection.py, of fixed words.

-- name: groups
-- What decides about a retry is the same for all orders of a group.
SELECT status, state, attempt_number, max_attempts, quarantined, count(*) AS orders, sum(size_mb::bigint)::bigint AS size_mb,
    sum(price) AS price, count(price) AS priced, min(created_at) AS oldest, max(created_at) AS newest
FROM fulfillment_logs WHERE {where}
GROUP BY status, state, attempt_number, max_attempts, quarantined;

-- name: unknown
-- Ids that no order has.
SELECT said::text FROM unnest($1::uuid[]) AS said
WHERE NOT EXISTS (SELECT FROM fulfillment_logs WHERE order_id = said) ORDER BY said;

-- name: keep
-- Of the previews that somebody made, the latest few.
WITH older AS (
    DELETE FROM access.retry_jobs WHERE id IN (
        SELECT id FROM access.retry_jobs WHERE actor = $2 AND state = 'previewed' ORDER BY created_at DESC OFFSET 4
    )
)
INSERT INTO access.retry_jobs (id, state, actor, filter, orders) VALUES ($1, 'previewed', $2, $3, $4)
RETURNING created_at + make_interval(secs => $5) AS expires_at;

-- name: keep_rows
-- The oldest orders first.
INSERT INTO access.retry_rows (job_id, number, order_id, expected_sequence, attempts)
SELECT {job}, row_number() OVER (ORDER BY created_at, order_id), order_id, sequence, attempt_number
FROM fulfillment_logs
WHERE {where} AND NOT quarantined AND (status, state, attempt_number, max_attempts) IN (
    SELECT * FROM unnest({statuses}::varchar[], {states}::varchar[], {attempts}::int[], {limits}::int[])
);

-- name: open_jobs
SELECT count(*) FROM access.retry_jobs WHERE state IN ('canary', 'running', 'paused');

-- name: lock
-- Whoever changes a job does it one after the other.
SELECT * FROM access.retry_jobs WHERE id = $1 FOR UPDATE;

-- name: move_on
-- Orders that changed since the preview showed them.
UPDATE access.retry_rows AS entry SET outcome = 'moved_on', why = 'the order is ' || stands.state
FROM fulfillment_logs AS stands
WHERE entry.job_id = $1 AND stands.order_id = entry.order_id
  AND (stands.sequence <> entry.expected_sequence OR stands.quarantined);

-- name: begin
UPDATE access.retry_jobs
SET state = CASE WHEN $3 = 0 THEN 'running' ELSE 'canary' END, actor = $2, canary = $3, tolerate = $4, per_s = $5,
    reason = $6, started_at = now(), resumed_at = now()
WHERE id = $1;

-- name: left
SELECT count(*) FROM access.retry_rows WHERE job_id = $1 AND outcome IS NULL;

-- name: job
SELECT * FROM access.retry_jobs WHERE id = $1 AND state <> 'previewed';

-- name: jobs
SELECT * FROM access.retry_jobs WHERE state <> 'previewed' ORDER BY started_at DESC LIMIT 50;

-- name: counts
-- What became of the orders of some jobs.
SELECT job_id, CASE WHEN outcome IS NOT NULL THEN outcome WHEN sent_at IS NULL THEN 'waiting' ELSE 'sent' END AS kind,
    count(*) AS orders
FROM access.retry_rows WHERE job_id = ANY($1::uuid[]) GROUP BY 1, 2;

-- name: rows
-- A page, each with how its order stands stands.
SELECT entry.number, entry.order_id::text, stands.state, entry.outcome, entry.why, entry.sent_at, entry.answered_at
FROM access.retry_rows AS entry LEFT JOIN fulfillment_logs AS stands ON stands.order_id = entry.order_id
WHERE entry.job_id = $1 AND ($2::text IS NULL OR entry.outcome = $2) AND entry.number > $3
ORDER BY entry.number LIMIT $4;

-- name: pause
UPDATE access.retry_jobs SET state = 'paused', resumes_as = $2, why = $3, owner = NULL, leased_until = '-infinity'
WHERE id = $1 RETURNING *;

-- name: resume
UPDATE access.retry_jobs SET state = resumes_as, resumes_as = NULL, why = NULL, resumed_at = now()
WHERE id = $1 RETURNING *;

-- name: cancel
-- What was sent is not taken back; the others never are.
WITH left_out AS (
    UPDATE access.retry_rows SET outcome = 'cancelled' WHERE job_id = $1 AND outcome IS NULL AND sent_at IS NULL
)
UPDATE access.retry_jobs
SET state = 'cancelled', why = $2, ended_at = now(), resumes_as = NULL, owner = NULL, leased_until = '-infinity'
WHERE id = $1 RETURNING *;

-- name: forget
-- Previews that nobody carried out, and what is long over.
DELETE FROM access.retry_jobs
WHERE (state = 'previewed' AND created_at < now() - make_interval(secs => $1))
   OR (state IN ('done', 'cancelled') AND ended_at < now() - make_interval(days => $2));

-- --- the work -------------------------------------------------------------------------------------------------------

-- name: take
-- A job that nobody is at: new, or its gateway has been silent for as long as its lease.
UPDATE access.retry_jobs SET owner = $1, leased_until = now() + make_interval(secs => $2)
WHERE id = (
    SELECT id FROM access.retry_jobs
    WHERE state IN ('canary', 'running') AND leased_until < now()
    ORDER BY started_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING *;

-- name: hold
-- Its owner is still at it. No row: it is somebody else's now, or a person stopped it.
UPDATE access.retry_jobs SET leased_until = now() + make_interval(secs => $3)
WHERE id = $1 AND owner = $2 AND state IN ('canary', 'running')
RETURNING *;

-- name: let_go
UPDATE access.retry_jobs SET owner = NULL, leased_until = '-infinity' WHERE owner = $1;

-- name: at_rest
-- Jobs that nobody carries on, with orders that may have been answered meanwhile.
SELECT DISTINCT asked.job_id FROM access.retry_rows AS asked JOIN access.retry_jobs AS job ON job.id = asked.job_id
WHERE asked.sent_at IS NOT NULL AND (asked.outcome IS NULL OR asked.outcome = 'in_doubt')
  AND job.state IN ('paused', 'done', 'cancelled');

-- name: lock_if_free
SELECT FROM access.retry_jobs WHERE id = $1 FOR UPDATE SKIP LOCKED;

-- name: next_rows
SELECT number, order_id::text, expected_sequence FROM access.retry_rows
WHERE job_id = $1 AND sent_at IS NULL AND outcome IS NULL ORDER BY number LIMIT $2;

-- name: sent
-- Kafka has their commands.
UPDATE access.retry_rows AS entry SET sent_at = now(), command_id = said.command_id
FROM unnest($2::int[], $3::uuid[]) AS said (number, command_id)
WHERE entry.job_id = $1 AND entry.number = said.number AND entry.sent_at IS NULL;

-- name: settle
-- What the fulfiller made of the commands. The row of an order names the last command alone: where that is another, the
-- order's own events say. Of a command that came twice what was done counts, not that the second was refused. An attempt
-- that was turned away was none: the order is tried again by itself, and what comes of that is the outcome.
UPDATE access.retry_rows AS entry
SET outcome = judged.outcome, why = judged.why, answered_at = coalesce(entry.answered_at, now())
FROM (
    SELECT asked.job_id, asked.number,
        CASE
            WHEN NOT coalesce(said.attempted, stands.command_id = asked.command_id AND stands.command_rejected IS NULL)
                THEN 'refused'
            WHEN stands.state = 'delivered' THEN 'delivered'
            WHEN stands.state IN ('accepted', 'unknown', 'review') THEN 'in_doubt'
            WHEN stands.state <> 'attempting' AND stands.attempt_number > asked.attempts THEN 'failed'
        END AS outcome,
        CASE
            WHEN NOT coalesce(said.attempted, stands.command_id = asked.command_id AND stands.command_rejected IS NULL)
                THEN coalesce(said.why, stands.command_rejected)
            WHEN stands.state <> 'delivered' THEN coalesce(stands.error_message, stands.error_code)
        END AS why
    FROM access.retry_rows AS asked
    JOIN fulfillment_logs AS stands ON stands.order_id = asked.order_id AND stands.sequence > asked.expected_sequence
    LEFT JOIN LATERAL (
        SELECT bool_or(event.said ->> 'type' <> 'CommandRejected') AS attempted, max(event.said ->> 'why') AS why
        FROM (
            SELECT convert_from(value, 'UTF8')::jsonb AS said FROM (
                SELECT value FROM events
                WHERE events.order_id = asked.order_id
                  AND position(convert_to(asked.command_id::text, 'UTF8') IN value) > 0
                OFFSET 0
            ) AS ours
        ) AS event
        WHERE event.said -> 'command' ->> 'command_id' = asked.command_id::text
    ) AS said ON stands.command_id IS DISTINCT FROM asked.command_id OR stands.command_rejected IS NOT NULL
    WHERE asked.job_id = $1 AND asked.sent_at IS NOT NULL AND (asked.outcome IS NULL OR asked.outcome = 'in_doubt')
      AND (said.attempted IS NOT NULL OR stands.command_id = asked.command_id)
) AS judged
WHERE entry.job_id = judged.job_id AND entry.number = judged.number
  AND judged.outcome IS NOT NULL AND judged.outcome IS DISTINCT FROM entry.outcome;

-- name: progress
-- By what is open, never by going through all that is done. `delivered` and `failed` are asked of a canary, so a thousand
-- answers will do; `failing` is of the latest 50 since the job went on; `waited`: no command was sent for so long.
SELECT
    (
        SELECT count(*) FROM (
            SELECT FROM access.retry_rows WHERE job_id = $1 AND sent_at IS NULL AND outcome IS NULL LIMIT 1000
        ) AS few
    ) AS unsent,
    undecided.unanswered, undecided.in_doubt, undecided.waited, answered.delivered, answered.failed, latest.failing
FROM (
    SELECT count(*) FILTER (WHERE outcome IS NULL) AS unanswered, count(*) FILTER (WHERE outcome = 'in_doubt') AS in_doubt,
        max(sent_at) < now() - make_interval(secs => $2) AS waited
    FROM access.retry_rows
    WHERE job_id = $1 AND sent_at IS NOT NULL AND (outcome IS NULL OR outcome = 'in_doubt')
) AS undecided
CROSS JOIN (
    SELECT count(*) FILTER (WHERE outcome = 'delivered') AS delivered, count(*) FILTER (WHERE outcome = 'failed') AS failed
    FROM (
        SELECT outcome FROM access.retry_rows WHERE job_id = $1 AND answered_at IS NOT NULL
        ORDER BY answered_at DESC LIMIT 1000
    ) AS few
) AS answered
CROSS JOIN (
    SELECT count(*) FILTER (WHERE outcome IN ('failed', 'in_doubt')) AS failing FROM (
        SELECT outcome FROM access.retry_rows
        WHERE job_id = $1 AND answered_at > (SELECT resumed_at FROM access.retry_jobs WHERE id = $1)
        ORDER BY answered_at DESC LIMIT 50
    ) AS few
) AS latest;

-- name: go_on
-- The canary is well.
UPDATE access.retry_jobs SET state = 'running', resumed_at = now() WHERE id = $1;

-- name: halt
-- The job itself finds that a person should look.
UPDATE access.retry_jobs
SET state = 'paused', resumes_as = 'running', why = $2, owner = NULL, leased_until = '-infinity'
WHERE id = $1;

-- name: finish
UPDATE access.retry_jobs SET state = 'done', ended_at = now(), owner = NULL, leased_until = '-infinity' WHERE id = $1;
