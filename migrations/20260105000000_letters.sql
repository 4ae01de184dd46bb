-- migrate:up

-- Dead letters that are sent back to where they came from. As in the first migration, no index of the view is named.

-- The letter (partition-offset) that was sent back and became this one, by its header.
ALTER TABLE dead_letters ADD COLUMN replay_of varchar;
CREATE INDEX ON dead_letters (replay_of) WHERE replay_of IS NOT NULL;
CREATE INDEX ON dead_letters (at, partition, "offset");

-- What was sent back, by whom: not in the view, for the letters' own topic does not say it.
CREATE TABLE access.replays (
    partition   integer     NOT NULL,
    "offset"    bigint      NOT NULL,
    -- When the letter was written: a topic that was made anew has other letters in the same places.
    at          timestamptz NOT NULL,
    -- Acknowledged by Kafka, so often.
    times       integer     NOT NULL DEFAULT 0,
    replayed_at timestamptz,
    -- While somebody is at it.
    claimed_at  timestamptz,
    actor       text        NOT NULL,
    reason      text        NOT NULL,
    PRIMARY KEY (partition, "offset", at)
);

-- migrate:down

DROP TABLE access.replays;
ALTER TABLE dead_letters DROP COLUMN replay_of;
