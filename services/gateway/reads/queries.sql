-- Each query has a name and a line on why. What stands in braces is put together by selection.py, of fixed words.

-- name: few_phones
-- Whether so few orders' phone numbers fit that their index is the way to them.
SELECT count(*) FROM (SELECT FROM orders WHERE {where} LIMIT {limit}) AS fitting;

-- name: page
-- One row more than is shown says that there is another page.
SELECT * FROM fulfillment_logs WHERE {where} ORDER BY {order} LIMIT {limit};

-- name: page_of_few
-- All that fit, then sorted: OFFSET keeps the planner from looking for them in the sort's order.
SELECT * FROM (SELECT * FROM fulfillment_logs WHERE {where} OFFSET 0) AS few ORDER BY {order} LIMIT {limit};

-- name: page_by_change
-- A period by when it was that orders last changed: those that were done with within hours, and the few others.
SELECT * FROM (
    (SELECT * FROM fulfillment_logs WHERE {soon} ORDER BY {order} LIMIT {limit})
    UNION ALL
    (SELECT * FROM fulfillment_logs WHERE {late} ORDER BY {order} LIMIT {limit})
) AS found
ORDER BY {order} LIMIT {limit};

-- name: counts
-- Row by row.
SELECT status, count(*) AS orders FROM fulfillment_logs WHERE {where} GROUP BY status;

-- name: recent_counts
-- Row by row, of the newest orders alone.
SELECT status, count(*) FILTER (WHERE {where}) AS orders, count(*) AS seen
FROM (
    SELECT status, phone_number, network, error_code, state FROM fulfillment_logs
    WHERE {period} ORDER BY created_at DESC, id DESC LIMIT {limit}
) AS recent
GROUP BY status;

-- name: tallied_counts
-- By tallies as far as they go, row by row at the ends.
SELECT status, sum(orders)::bigint AS orders
FROM (
    SELECT found.status, found.orders
    FROM unnest({widths}::int[], {starts}::timestamptz[], {ends}::timestamptz[]) AS piece (width_s, start, "end")
    CROSS JOIN LATERAL (
        SELECT status, sum(orders::integer) AS orders FROM tallies
        WHERE tallies.width_s = piece.width_s AND tallies.start >= piece.start AND tallies.start < piece.end AND {where}
        GROUP BY status
        UNION ALL
        SELECT status, count(*) AS orders FROM fulfillment_logs
        WHERE piece.width_s = 0 AND created_at >= piece.start AND created_at < piece.end AND {where}
        GROUP BY status
    ) AS found
) AS parts
GROUP BY status;

-- name: statistics
-- Everything by status, once by time and once by network, each with its latencies: a row for every one of them would
-- take longer to hand over than to add up. The bins are in any order, the same in both arrays. And why orders failed.
SELECT start, network, error_code, status, sum(orders)::bigint AS orders, sum(attempts)::bigint AS attempts,
    array_agg(latency_bin) AS bins, array_agg(orders) AS latencies
FROM (
    SELECT start, network, error_code, status, latency_bin,
        sum(orders::integer) AS orders, sum(attempts::integer) AS attempts
    FROM tallies
    WHERE width_s = $1 AND start >= $2 AND start < $3 AND ($4::varchar IS NULL OR network = $4)
    GROUP BY GROUPING SETS ((start, status, latency_bin), (network, status, latency_bin), (error_code, status))
    HAVING sum(orders::integer) <> 0 OR sum(attempts::integer) <> 0
) AS binned
GROUP BY start, network, error_code, status;

-- name: export
-- A page of lines as RFC 4180 has them, made here: it is ten times as fast. Text stands in quotes; a cell that a
-- spreadsheet would take for a formula begins with an apostrophe.
SELECT string_agg(line, '') AS lines, count(*) AS rows,
    (array_agg(created_at))[count(*)] AS last_created_at, (array_agg(id))[count(*)] AS last_id
FROM (
    SELECT created_at, id, concat(
        id, ',', order_id, ',', {network}, ',', {phone_number}, ',', status, ',', attempt_number, ',', max_attempts,
        ',', {api_response}, ',', {error_message}, ',', {retry_after}, ',', {fulfilled_at}, ',', {created_at}, ',',
        {updated_at}, E'\r\n'
    ) AS line
    FROM fulfillment_logs WHERE {where} ORDER BY {order} LIMIT {limit}
) AS page;

-- name: timeline
-- An order's events with their places, its dead letters, and what could not be applied.
SELECT 'event' AS kind, partition, "offset", value, NULL::timestamptz AS at, NULL AS why
FROM events WHERE order_id = $1
UNION ALL
SELECT 'dead_letter', partition, "offset", NULL, at, coalesce(reason || ': ' || message, reason)
FROM dead_letters WHERE order_id = $1
UNION ALL
SELECT 'quarantined', partition, "offset", NULL, at, why
FROM quarantine WHERE order_id = $1;

-- name: row
SELECT * FROM fulfillment_logs WHERE order_id = $1;

-- name: stands
-- How far the view has followed what changes orders, by topic and partition.
SELECT topic, partition, next_offset FROM positions WHERE topic = ANY($1::text[]) ORDER BY topic, partition;

-- name: changed
-- The orders that changed from one stand of the view to another, those of $7 among them.
SELECT * FROM fulfillment_logs WHERE order_id IN (
    SELECT order_id FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS stretch (partition, first, beyond)
    JOIN events ON events.partition = stretch.partition AND "offset" >= first AND "offset" < beyond
    UNION
    SELECT order_id FROM unnest($4::int[], $5::bigint[], $6::bigint[]) AS stretch (partition, first, beyond)
    JOIN dead_letters ON dead_letters.partition = stretch.partition AND "offset" >= first AND "offset" < beyond
    UNION
    SELECT unnest($7::uuid[])
)
ORDER BY updated_at, id LIMIT $8;

-- name: unanswered
-- Orders that the fulfiller has said nothing about: no event tells of them.
SELECT order_id::text FROM fulfillment_logs WHERE status = 'pending' AND state = 'received' LIMIT $1;
