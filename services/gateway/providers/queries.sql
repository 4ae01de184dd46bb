-- Each query has a name and a line on why.

-- name: providers
-- How each stands, as its own topic says, and what its open orders wait for. Ended orders, nearly all, are in none of
-- the indexes that this reads.
WITH open AS (
    SELECT provider, state, next_at
    FROM fulfillment_logs
    WHERE provider IS NOT NULL
        AND (status IN ('pending', 'processing') OR (status = 'failed' AND retry_after IS NOT NULL))
), counted AS (
    SELECT provider AS name,
        count(*) FILTER (WHERE state IN ('created', 'waiting') AND next_at <= now()) AS waiting,
        count(*) FILTER (WHERE state IN ('created', 'waiting') AND next_at > now()) AS later,
        count(*) FILTER (WHERE state = 'attempting' AND next_at >= now()) AS calling,
        count(*) FILTER (WHERE state IN ('accepted', 'unknown') OR (state = 'attempting' AND next_at < now())) AS doubted,
        count(*) FILTER (WHERE state = 'review') AS reviews,
        count(*) FILTER (WHERE state = 'settling') AS settling
    FROM open
    GROUP BY provider
)
SELECT name, provider.state, provider.why, provider.brought_by, provider.actor, provider.command_id, provider.since,
    provider.next_probe_at, provider.available_mb, provider.reserved_mb, provider.balance_at, provider.at,
    provider.needs_mb,
    coalesce(waiting, 0) AS waiting, coalesce(later, 0) AS later, coalesce(calling, 0) AS calling,
    coalesce(doubted, 0) AS doubted, coalesce(reviews, 0) AS reviews, coalesce(settling, 0) AS settling
FROM providers AS provider
FULL JOIN counted USING (name)
ORDER BY name;

-- name: balance
-- The last balance of each stretch of time.
SELECT DISTINCT ON (date_bin($4::interval, start, 'epoch')) at, available_mb, reserved_mb
FROM provider_balances
WHERE provider = $1 AND start >= $2 AND start < $3
ORDER BY date_bin($4::interval, start, 'epoch'), start DESC;
