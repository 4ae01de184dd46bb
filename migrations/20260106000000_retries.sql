-- migrate:up

-- Bulk retries: what was previewed and is carried out. Not in the view, for the log does not say it.
CREATE TABLE access.retry_jobs (
    id          uuid PRIMARY KEY,
    state       text        NOT NULL CHECK (state IN ('previewed', 'canary', 'running', 'paused', 'done', 'cancelled')),
    -- Why it is paused or was cancelled.
    why         text,
    -- Where a paused one goes on.
    resumes_as  text        CHECK (resumes_as IN ('canary', 'running')),
    actor       text        NOT NULL,
    reason      text        NOT NULL DEFAULT '',
    -- Null where orders were named one by one.
    filter      jsonb,
    orders      integer     NOT NULL,
    canary      integer     NOT NULL DEFAULT 0,
    -- So many of the canary may fail.
    tolerate    integer     NOT NULL DEFAULT 0,
    per_s       integer     NOT NULL DEFAULT 1 CHECK (per_s > 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    started_at  timestamptz,
    -- Started, resumed, or the canary passed: what came before counts no more.
    resumed_at  timestamptz,
    ended_at    timestamptz,
    -- The gateway that is at it, for as long as it says so.
    owner       uuid,
    leased_until timestamptz NOT NULL DEFAULT '-infinity'
);

CREATE INDEX retry_jobs_state ON access.retry_jobs (state, created_at);

CREATE TABLE access.retry_rows (
    job_id            uuid    NOT NULL REFERENCES access.retry_jobs ON DELETE CASCADE,
    -- 1, 2, 3 … in the order in which they are sent.
    number            integer NOT NULL,
    order_id          uuid    NOT NULL,
    -- Of the order's last event in the preview: where another followed, nothing is retried.
    expected_sequence integer NOT NULL,
    -- Then: an attempt that was turned away takes its number back.
    attempts          integer NOT NULL,
    -- It follows from job and order, and is kept here once Kafka has it.
    command_id        uuid,
    sent_at           timestamptz,
    answered_at       timestamptz,
    outcome           text CHECK (outcome IN ('delivered', 'failed', 'in_doubt', 'refused', 'moved_on', 'cancelled')),
    why               text,
    PRIMARY KEY (job_id, number),
    UNIQUE (job_id, order_id)
);

CREATE INDEX retry_rows_unsent ON access.retry_rows (job_id, number) WHERE sent_at IS NULL AND outcome IS NULL;
CREATE INDEX retry_rows_unanswered ON access.retry_rows (job_id, number)
    WHERE sent_at IS NOT NULL AND (outcome IS NULL OR outcome = 'in_doubt');
CREATE INDEX retry_rows_answered ON access.retry_rows (job_id, answered_at DESC) WHERE answered_at IS NOT NULL;

-- migrate:down

DROP TABLE access.retry_rows, access.retry_jobs;
