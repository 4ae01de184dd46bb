-- migrate:up

-- A success has no error: else the planner takes one for as likely as the other, and reads every order for a page of both.
CREATE STATISTICS (mcv) ON status, state, error_code FROM fulfillment_logs;
ANALYZE fulfillment_logs;

-- migrate:down

DO $$
BEGIN
    EXECUTE (
        SELECT 'DROP STATISTICS ' || stxnamespace::regnamespace || '.' || quote_ident(stxname) FROM pg_statistic_ext
        WHERE stxrelid = 'fulfillment_logs'::regclass
    );
END
$$;
