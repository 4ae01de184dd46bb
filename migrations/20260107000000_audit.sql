-- migrate:up

-- The audit log is forgotten from its old end alone, and only by this function.
CREATE OR REPLACE FUNCTION access.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('access.forgets', true) = 'on' AND OLD.at < now() - interval '30 days' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'access.audit is only added to';
END
$$;

-- Of the oldest at_most lines those before a time; how many they were.
CREATE FUNCTION access.forget_audit(before timestamptz, at_most int) RETURNS bigint LANGUAGE sql
SET access.forgets = 'on' AS $$
    WITH oldest AS (
        SELECT id FROM access.audit ORDER BY id LIMIT at_most
    ), gone AS (
        DELETE FROM access.audit WHERE id IN (SELECT id FROM oldest) AND at < before RETURNING id
    )
    SELECT count(*) FROM gone
$$;

-- migrate:down

DROP FUNCTION access.forget_audit(timestamptz, int);
CREATE OR REPLACE FUNCTION access.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'access.audit is only added to';
END
$$;
