-- migrate:up

-- Orders that changed long after they were made, or before by somebody's clock: few, and found by when they did.
-- As in the first migration, no index is named here.
CREATE INDEX ON fulfillment_logs (updated_at, id)
WHERE updated_at < created_at OR updated_at - created_at > interval '3 hours';

-- migrate:down

DO $$
BEGIN
    EXECUTE (
        SELECT 'DROP INDEX ' || indexrelid::regclass FROM pg_index
        WHERE indrelid = 'fulfillment_logs'::regclass AND pg_get_expr(indpred, indrelid) LIKE '%03:00:00%'
    );
END
$$;
