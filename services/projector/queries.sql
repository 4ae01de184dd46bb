-- name: known_positions
-- Where to go on; a partition seen for the first time begins at 0.
WITH wanted AS (
    SELECT * FROM unnest($1::text[], $2::int[]) AS wanted (topic, partition)
), made AS (
    INSERT INTO positions (topic, partition, next_offset)
    SELECT topic, partition, 0 FROM wanted
    ON CONFLICT DO NOTHING
    RETURNING topic, partition, next_offset
)
SELECT topic, partition, next_offset FROM made
UNION ALL
SELECT topic, partition, next_offset FROM positions JOIN wanted USING (topic, partition);

-- name: move_positions
-- First of what a transaction writes: a partition that has moved meanwhile belongs to another projector. The table's oid
-- tells of a rebuild that put another table in its place. The orders' events go with it, for each statement takes its
-- time. Those who wait for an order are told when all is committed.
WITH moved AS (
    UPDATE positions SET next_offset = batch.next_offset, updated_at = now()
    FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[]) AS batch (topic, partition, expected, next_offset)
    WHERE positions.topic = batch.topic
        AND positions.partition = batch.partition
        AND positions.next_offset = batch.expected
    RETURNING positions.tableoid
), kept AS (
    INSERT INTO events (partition, "offset", order_id, value)
    SELECT * FROM unnest($6::int[], $7::bigint[], $8::uuid[], $9::bytea[])
    WHERE (SELECT count(*) FROM moved) = cardinality($1::text[])
), told AS (
    SELECT pg_notify('fulfillment_changed', payload) FROM unnest($5::text[]) AS payload
)
SELECT count(*), min(tableoid::bigint), (SELECT count(*) FROM told) FROM moved;

-- name: rows
-- In the order of projection.Row.
SELECT
    order_id::text, network, phone_number, size_mb, price, package_id, account, created_at, updated_at,
    max_attempts, status, state, sequence, attempt_number, provider, reference, trigger, transaction_id,
    error_code, error_message, api_response::text, retry_after, fulfilled_at, next_act, next_at, schedule_id,
    command_id::text, command_rejected, quarantined
FROM fulfillment_logs
WHERE order_id = ANY($1::uuid[]);

-- name: without_rows
-- Which of these orders have no row, and the earliest dead letter about each that was read before its OrderCreated,
-- but not about a record before that. LIMIT keeps it from a plan that reads all orders, which a table that was small a
-- moment ago invites.
SELECT wanted.order_id::text, letter.reason, letter.message, letter.at
FROM unnest($1::uuid[], $4::int[], $5::bigint[]) AS wanted (order_id, partition, "offset")
LEFT JOIN LATERAL (
    SELECT reason, message, at FROM dead_letters
    WHERE dead_letters.order_id = wanted.order_id AND original_topic = $2 AND reason <> $3
    AND (original_partition = wanted.partition AND original_offset < wanted."offset") IS NOT TRUE
    ORDER BY at, partition, "offset"
    LIMIT 1
) AS letter ON true
LEFT JOIN LATERAL (SELECT true AS there FROM orders WHERE orders.id = wanted.order_id LIMIT 1) AS known ON true
WHERE known.there IS NULL;

-- name: insert_received
WITH new AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::int[], $6::numeric[], $7::text[], $8::text[],
        $9::timestamptz[], $10::timestamptz[], $11::int[], $12::text[], $13::text[], $14::text[], $15::text[]
    ) AS new (
        id, order_id, network, phone_number, size_mb, price, package_id, account,
        created_at, updated_at, max_attempts, status, state, error_code, error_message
    )
), made AS (
    INSERT INTO orders (
        id, network, size_mb, phone_number, price, package_id, account, fulfillment_status, created_at, updated_at
    )
    SELECT order_id, network, size_mb, phone_number, price, package_id, account, status, created_at, updated_at
    FROM new
    ON CONFLICT DO NOTHING
)
INSERT INTO fulfillment_logs (
    id, order_id, network, phone_number, size_mb, price, package_id, account, created_at, updated_at,
    max_attempts, status, state, error_code, error_message, sequence, attempt_number
)
SELECT
    id, order_id, network, phone_number, size_mb, price, package_id, account, created_at, updated_at,
    max_attempts, status, state, error_code, error_message, 0, 0
FROM new
ON CONFLICT DO NOTHING;

-- name: insert_answered
-- Orders with their first events: a row that is there already has had none, or the batch is read again with care.
WITH new AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::int[], $6::numeric[], $7::text[], $8::text[],
        $9::timestamptz[], $10::timestamptz[], $11::int[], $12::text[], $13::text[], $14::int[], $15::int[],
        $16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::text[],
        $23::timestamptz[], $24::timestamptz[], $25::text[], $26::timestamptz[], $27::int[], $28::uuid[],
        $29::text[], $30::bool[]
    ) AS new (
        id, order_id, network, phone_number, size_mb, price, package_id, account, created_at, updated_at,
        max_attempts, status, state, sequence, attempt_number, provider, reference, trigger, transaction_id,
        error_code, error_message, api_response, retry_after, fulfilled_at, next_act, next_at, schedule_id,
        command_id, command_rejected, quarantined
    )
), ordered AS (
    INSERT INTO orders (
        id, network, size_mb, phone_number, price, package_id, account, fulfillment_status, created_at, updated_at
    )
    SELECT order_id, network, size_mb, phone_number, price, package_id, account, status, created_at, updated_at
    FROM new
    ON CONFLICT (id) DO UPDATE SET
        network = excluded.network,
        size_mb = excluded.size_mb,
        phone_number = excluded.phone_number,
        price = excluded.price,
        package_id = excluded.package_id,
        account = excluded.account,
        fulfillment_status = excluded.fulfillment_status,
        created_at = excluded.created_at,
        updated_at = excluded.updated_at
)
INSERT INTO fulfillment_logs (
    id, order_id, network, phone_number, size_mb, price, package_id, account, created_at, updated_at,
    max_attempts, status, state, sequence, attempt_number, provider, reference, trigger, transaction_id,
    error_code, error_message, api_response, retry_after, fulfilled_at, next_act, next_at, schedule_id,
    command_id, command_rejected, quarantined
)
SELECT
    id, order_id, network, phone_number, size_mb, price, package_id, account, created_at, updated_at,
    max_attempts, status, state, sequence, attempt_number, provider, reference, trigger, transaction_id,
    error_code, error_message, api_response::jsonb, retry_after, fulfilled_at, next_act, next_at, schedule_id,
    command_id, command_rejected, quarantined
FROM new
ON CONFLICT (order_id) DO UPDATE SET
    network = excluded.network,
    phone_number = excluded.phone_number,
    size_mb = excluded.size_mb,
    price = excluded.price,
    package_id = excluded.package_id,
    account = excluded.account,
    created_at = excluded.created_at,
    updated_at = excluded.updated_at,
    max_attempts = excluded.max_attempts,
    status = excluded.status,
    state = excluded.state,
    sequence = excluded.sequence,
    attempt_number = excluded.attempt_number,
    provider = excluded.provider,
    reference = excluded.reference,
    trigger = excluded.trigger,
    transaction_id = excluded.transaction_id,
    error_code = excluded.error_code,
    error_message = excluded.error_message,
    api_response = excluded.api_response,
    retry_after = excluded.retry_after,
    fulfilled_at = excluded.fulfilled_at,
    next_act = excluded.next_act,
    next_at = excluded.next_at,
    schedule_id = excluded.schedule_id,
    command_id = excluded.command_id,
    command_rejected = excluded.command_rejected,
    quarantined = excluded.quarantined
WHERE fulfillment_logs.sequence = 0;

-- name: update_rows
-- Orders that go on from the event at which their row was read.
WITH new AS (
    SELECT * FROM unnest(
        $1::int[], $2::uuid[], $3::timestamptz[], $4::int[], $5::text[], $6::text[], $7::int[], $8::int[],
        $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[],
        $16::timestamptz[], $17::timestamptz[], $18::text[], $19::timestamptz[], $20::int[], $21::uuid[],
        $22::text[], $23::bool[]
    ) AS new (
        from_sequence, order_id, updated_at, max_attempts, status, state, sequence, attempt_number, provider,
        reference, trigger, transaction_id, error_code, error_message, api_response, retry_after, fulfilled_at,
        next_act, next_at, schedule_id, command_id, command_rejected, quarantined
    )
), ordered AS (
    UPDATE orders SET fulfillment_status = new.status, updated_at = new.updated_at
    FROM new WHERE orders.id = new.order_id
)
UPDATE fulfillment_logs AS log SET
    updated_at = new.updated_at,
    max_attempts = new.max_attempts,
    status = new.status,
    state = new.state,
    sequence = new.sequence,
    attempt_number = new.attempt_number,
    provider = new.provider,
    reference = new.reference,
    trigger = new.trigger,
    transaction_id = new.transaction_id,
    error_code = new.error_code,
    error_message = new.error_message,
    api_response = new.api_response::jsonb,
    retry_after = new.retry_after,
    fulfilled_at = new.fulfilled_at,
    next_act = new.next_act,
    next_at = new.next_at,
    schedule_id = new.schedule_id,
    command_id = new.command_id,
    command_rejected = new.command_rejected,
    quarantined = new.quarantined
FROM new
WHERE log.order_id = new.order_id AND log.sequence = new.from_sequence;

-- name: insert_quarantined
-- In the order of projection.Quarantined.
INSERT INTO quarantine (topic, partition, "offset", order_id, sequence_expected, sequence_seen, why, at)
SELECT * FROM unnest(
    $1::text[], $2::int[], $3::bigint[], $4::uuid[], $5::bigint[], $6::bigint[], $7::text[], $8::timestamptz[]
);

-- name: insert_dead_letters
-- In the order of batch.DeadLetter.
INSERT INTO dead_letters (
    partition, "offset", at, original_topic, original_partition, original_offset, reason, message, order_id,
    key, value, headers, replay_of
)
SELECT partition, "offset", at, topic, from_partition, from_offset, reason, message, order_id, key, value,
    headers::jsonb, replay_of
FROM unnest(
    $1::int[], $2::bigint[], $3::timestamptz[], $4::text[], $5::int[], $6::bigint[], $7::text[], $8::text[],
    $9::uuid[], $10::bytea[], $11::bytea[], $12::text[], $13::text[]
) AS letter (
    partition, "offset", at, topic, from_partition, from_offset, reason, message, order_id, key, value, headers,
    replay_of
);

-- name: known_providers
-- In the order of batch.Provider.
SELECT
    name, state, why, brought_by, actor, command_id, since, next_probe_at, available_mb, reserved_mb, balance_at, at,
    needs_mb
FROM providers WHERE name = ANY($1::text[]);

-- name: upsert_providers
-- In the order of batch.Provider.
INSERT INTO providers (
    name, state, why, brought_by, actor, command_id, since, next_probe_at, available_mb, reserved_mb, balance_at, at,
    needs_mb
)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[],
    $9::bigint[], $10::bigint[], $11::timestamptz[], $12::timestamptz[], $13::int[]
)
ON CONFLICT (name) DO UPDATE SET
    state = excluded.state,
    why = excluded.why,
    brought_by = excluded.brought_by,
    actor = excluded.actor,
    command_id = excluded.command_id,
    since = excluded.since,
    next_probe_at = excluded.next_probe_at,
    available_mb = excluded.available_mb,
    reserved_mb = excluded.reserved_mb,
    balance_at = excluded.balance_at,
    at = excluded.at,
    needs_mb = excluded.needs_mb;

-- name: upsert_balances
-- In the order of batch.Balance. Those of a rebuild were taken over, and may be later than what is read.
INSERT INTO provider_balances AS known (provider, start, available_mb, reserved_mb, at)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::timestamptz[])
ON CONFLICT (provider, start) DO UPDATE SET
    available_mb = CASE WHEN excluded.at >= known.at THEN excluded.available_mb ELSE known.available_mb END,
    reserved_mb = CASE WHEN excluded.at >= known.at THEN excluded.reserved_mb ELSE known.reserved_mb END,
    at = greatest(excluded.at, known.at);

-- name: notify_providers
-- Those who wait for one are told when all is committed.
SELECT pg_notify('providers_changed', name) FROM unnest($1::text[]) AS name;

-- name: stands
-- How the open orders stand, for the monitor. Ended orders, nearly all, are in none of the indexes that this reads.
WITH open AS (
    SELECT order_id, network, provider, log.state, error_code, created_at, next_at,
        error_code IN ('INSUFFICIENT_BALANCE', 'BAD_CREDENTIALS', 'ACCOUNT_SUSPENDED')
            AND log.state IN ('created', 'waiting')
            OR off.name IS NOT NULL AND (log.state = 'created' OR log.state = 'waiting' AND next_at < now())
            AS suspended,
        next_at < now() AND log.state IN ('accepted', 'unknown', 'review', 'waiting', 'settling') AS due
    FROM fulfillment_logs AS log
    LEFT JOIN providers AS off ON off.name = log.provider AND off.state = 'suspended'
    WHERE status IN ('pending', 'processing') OR (status = 'failed' AND retry_after IS NOT NULL)
), judged AS (
    SELECT *, state = 'received' AS waits, due AND suspended IS NOT TRUE AS overdue,
        state IN ('accepted', 'unknown') OR (state = 'attempting' AND next_at < now()) AS doubted
    FROM open
)
SELECT network, max(provider) AS provider,
    extract(epoch FROM now() - min(created_at) FILTER (WHERE waits))::float8 AS waiting_s,
    (array_agg(order_id ORDER BY created_at) FILTER (WHERE waits))[1:5] AS waiting_s_orders,
    extract(epoch FROM now() - min(next_at) FILTER (WHERE overdue))::float8 AS overdue_s,
    (array_agg(order_id ORDER BY next_at) FILTER (WHERE overdue))[1:5] AS overdue_s_orders,
    extract(epoch FROM now() - min(created_at) FILTER (WHERE doubted))::float8 AS in_doubt_s,
    (array_agg(order_id ORDER BY created_at) FILTER (WHERE doubted))[1:5] AS in_doubt_s_orders,
    count(*) FILTER (WHERE state = 'review') AS reviews,
    (array_agg(order_id ORDER BY created_at) FILTER (WHERE state = 'review'))[1:5] AS reviews_orders,
    count(*) FILTER (WHERE suspended) AS suspended,
    count(*) FILTER (WHERE suspended AND error_code = 'INSUFFICIENT_BALANCE') AS without_balance
FROM judged
GROUP BY network;

-- name: provider_stands
SELECT name AS provider, state = 'suspended' AS suspended, CASE WHEN state = 'suspended' THEN why END AS why,
    available_mb AS balance_mb
FROM providers
ORDER BY name;

-- name: quarantined_count
SELECT count(*) FROM quarantine;

-- name: provider
-- Who serves a network: whoever had its last order.
SELECT provider FROM fulfillment_logs
WHERE network = $1 AND provider IS NOT NULL
ORDER BY created_at DESC
LIMIT 1;
