-- migrate:up

-- What people ask of the view. As in the first migration, no index or constraint is named here.

-- Any part of a phone number. On `orders`, whose phone numbers stay where they are when an order goes on: room is left
-- in each page, so that an update touches no index.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
ALTER TABLE orders SET (fillfactor = 60);
CREATE INDEX ON orders USING gin (phone_number gin_trgm_ops);
-- And its beginning.
CREATE INDEX ON orders (phone_number, id);

CREATE INDEX ON fulfillment_logs (updated_at, id);
-- What the provider calls an order; what we call it at the provider follows from the order's id.
CREATE INDEX ON fulfillment_logs (transaction_id) WHERE transaction_id IS NOT NULL;
CREATE INDEX ON fulfillment_logs (error_code, created_at, id) WHERE error_code IS NOT NULL;

-- The events that the rows are made of, each with its place in fulfillment.events and its value as it stands there.
CREATE TABLE events (
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    order_id uuid NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (partition, "offset")
);
CREATE INDEX ON events (order_id);

-- How many orders there are of each kind, by the minute, hour and day (UTC) in which they were made: a count of a
-- million rows would take longer than anybody likes to wait.
CREATE TABLE tallies (
    width_s integer NOT NULL,
    start timestamptz NOT NULL,
    network varchar NOT NULL,
    state varchar NOT NULL,
    error_code varchar NOT NULL,
    -- Of a delivered order, as latency_bin has it; else 0.
    latency_bin smallint NOT NULL,
    -- The session that counted: so none waits for another. What counts is the sum, a part may be below zero.
    writer integer NOT NULL,
    status varchar NOT NULL,
    orders bigint NOT NULL,
    attempts bigint NOT NULL,
    PRIMARY KEY (width_s, start, network, state, error_code, latency_bin, writer)
) WITH (fillfactor = 60);

-- Quarter octaves of the seconds from order to delivery: bin n holds 2^(n/4) to 2^((n+1)/4) s, from a millisecond on.
CREATE FUNCTION latency_bin(created_at timestamptz, fulfilled_at timestamptz) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        floor(4 * ln(greatest(extract(epoch FROM fulfilled_at - created_at)::float8, 0.001)) / ln(2.0::float8)), 0
    )::smallint
$$;

-- Tables are found by the search path: a rebuild counts in its own.
CREATE FUNCTION tally() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO tallies AS known
        SELECT width_s, date_bin(make_interval(secs => width_s), minute, 'epoch'), network, state, error_code, bin,
            pg_backend_pid(), min(status), sum(orders), sum(attempts)
        FROM (
            SELECT date_bin('1 minute', created_at, 'epoch') AS minute, network, state,
                coalesce(error_code, '') AS error_code, public.latency_bin(created_at, fulfilled_at) AS bin,
                min(status) AS status, count(*) AS orders, sum(attempt_number) AS attempts
            FROM new_rows GROUP BY 1, 2, 3, 4, 5
        ) AS minutes, (VALUES (60), (3600), (86400)) AS widths (width_s)
        GROUP BY 1, 2, 3, 4, 5, 6
        ON CONFLICT (width_s, start, network, state, error_code, latency_bin, writer) DO UPDATE
        SET orders = known.orders + excluded.orders, attempts = known.attempts + excluded.attempts;
    ELSE
        INSERT INTO tallies AS known
        SELECT width_s, date_bin(make_interval(secs => width_s), minute, 'epoch'), network, state, error_code, bin,
            pg_backend_pid(), min(status), sum(orders), sum(attempts)
        FROM (
            SELECT date_bin('1 minute', created_at, 'epoch') AS minute, network, state,
                coalesce(error_code, '') AS error_code, public.latency_bin(created_at, fulfilled_at) AS bin,
                min(status) AS status, sum(change) AS orders, sum(change * attempt_number) AS attempts
            FROM (
                SELECT 1 AS change, created_at, fulfilled_at, network, state, status, error_code, attempt_number
                FROM new_rows
                UNION ALL
                SELECT -1, created_at, fulfilled_at, network, state, status, error_code, attempt_number
                FROM old_rows
            ) AS changed
            GROUP BY 1, 2, 3, 4, 5
            HAVING sum(change) <> 0 OR sum(change * attempt_number) <> 0
        ) AS minutes, (VALUES (60), (3600), (86400)) AS widths (width_s)
        GROUP BY 1, 2, 3, 4, 5, 6
        ON CONFLICT (width_s, start, network, state, error_code, latency_bin, writer) DO UPDATE
        SET orders = known.orders + excluded.orders, attempts = known.attempts + excluded.attempts;
    END IF;
    RETURN NULL;
END
$$;

INSERT INTO tallies
SELECT width_s, date_bin(make_interval(secs => width_s), created_at, 'epoch'), network, state, coalesce(error_code, ''),
    latency_bin(created_at, fulfilled_at), 0, min(status), count(*), sum(attempt_number)
FROM fulfillment_logs, (VALUES (60), (3600), (86400)) AS widths (width_s)
GROUP BY 1, 2, 3, 4, 5, 6;

CREATE TRIGGER tally_insert AFTER INSERT ON fulfillment_logs
REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tally();
CREATE TRIGGER tally_update AFTER UPDATE ON fulfillment_logs
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tally();

-- migrate:down

DROP TRIGGER tally_insert ON fulfillment_logs;
DROP TRIGGER tally_update ON fulfillment_logs;
DROP FUNCTION tally();
DROP FUNCTION latency_bin(timestamptz, timestamptz);
DROP TABLE tallies, events;
