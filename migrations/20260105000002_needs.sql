-- migrate:up

-- The bundle that a provider's balance was too small for.
ALTER TABLE providers ADD COLUMN needs_mb integer;

-- migrate:down

ALTER TABLE providers DROP COLUMN needs_mb;
