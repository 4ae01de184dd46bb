-- Each query has a name and a line on why. What stands in braces is put together of fixed words.

-- name: letters
-- A page, and of each letter the last one that it became again.
SELECT letter.partition, letter."offset", letter.at, letter.reason, left(letter.message, 2000) AS message,
    letter.original_topic, letter.original_partition, letter.original_offset, letter.order_id::text,
    octet_length(letter.value) AS size, letter.replay_of,
    replay.times, replay.replayed_at, replay.actor, replay.reason AS because,
    (
        SELECT again.partition || '-' || again."offset" FROM dead_letters AS again
        WHERE again.replay_of = letter.partition || '-' || letter."offset" ORDER BY again.at DESC LIMIT 1
    ) AS failed_again
FROM dead_letters AS letter
LEFT JOIN access.replays AS replay
    ON replay.partition = letter.partition AND replay."offset" = letter."offset" AND replay.at = letter.at
WHERE {where}
ORDER BY letter.at DESC, letter.partition DESC, letter."offset" DESC LIMIT {limit};

-- name: groups
-- By error: how many, since when, and the latest of them.
SELECT counted.*, latest.partition, latest."offset"
FROM (
    SELECT letter.reason, count(*) AS letters, min(letter.at) AS first_seen, max(letter.at) AS last_seen
    FROM dead_letters AS letter
    LEFT JOIN access.replays AS replay
        ON replay.partition = letter.partition AND replay."offset" = letter."offset" AND replay.at = letter.at
    WHERE {where}
    GROUP BY letter.reason
) AS counted
CROSS JOIN LATERAL (
    SELECT letter.partition, letter."offset"
    FROM dead_letters AS letter
    LEFT JOIN access.replays AS replay
        ON replay.partition = letter.partition AND replay."offset" = letter."offset" AND replay.at = letter.at
    WHERE letter.reason = counted.reason AND letter.at = counted.last_seen AND {where}
    ORDER BY letter.partition DESC, letter."offset" DESC LIMIT 1
) AS latest
ORDER BY counted.letters DESC, counted.reason LIMIT 100;

-- name: whole
-- What `letters` leaves out of one.
SELECT key, substring(value FOR $3) AS value, headers FROM dead_letters WHERE partition = $1 AND "offset" = $2;

-- name: to_replay
-- In the order of judgement.Letter; oldest first. What is too large to be an order is not fetched.
SELECT letter.partition, letter."offset", letter.at, letter.original_topic, letter.original_partition, letter.reason,
    letter.key, CASE WHEN octet_length(letter.value) <= {largest} THEN letter.value END,
    octet_length(letter.value), letter.headers,
    coalesce(replay.times, 0), replay.replayed_at, replay.actor,
    coalesce(replay.claimed_at > now() - interval '30 s', false)
FROM dead_letters AS letter
LEFT JOIN access.replays AS replay
    ON replay.partition = letter.partition AND replay."offset" = letter."offset" AND replay.at = letter.at
WHERE {where}
ORDER BY letter.at, letter.partition, letter."offset" LIMIT {limit};

-- name: orders
-- In the order of judgement.Known.
SELECT order_id::text, sequence, phone_number, size_mb, network FROM fulfillment_logs WHERE order_id = ANY($1::uuid[]);
