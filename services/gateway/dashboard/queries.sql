-- Each query has a name and a line on why.

-- name: open
-- What may have been delivered and may not, with the money at stake; what a person decides about; what waits for its
-- next attempt. The status leads to the few.
SELECT
    count(*) FILTER (WHERE state IN ('unknown', 'review')) AS orders,
    coalesce(sum(price) FILTER (WHERE state IN ('unknown', 'review')), 0) AS price,
    count(*) FILTER (WHERE state = 'review') AS review,
    coalesce(sum(price) FILTER (WHERE state = 'review'), 0) AS review_price,
    (
        SELECT count(*) FROM fulfillment_logs WHERE status = 'failed' AND retry_after IS NOT NULL AND state = 'waiting'
    ) AS waiting
FROM fulfillment_logs WHERE status = 'processing';

-- name: failures
-- Which codes there are, few among many rows: from one to the next in their index.
WITH RECURSIVE code AS (
    (SELECT error_code FROM fulfillment_logs WHERE error_code IS NOT NULL ORDER BY error_code LIMIT 1)
    UNION ALL
    SELECT (
        SELECT error_code FROM fulfillment_logs WHERE error_code > code.error_code ORDER BY error_code LIMIT 1
    ) FROM code WHERE code.error_code IS NOT NULL
)
SELECT error_code FROM code WHERE error_code ~ '^[A-Za-z0-9_.-]{1,64}$' LIMIT $1;
