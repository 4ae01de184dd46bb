-- migrate:up

-- The view of the log: it can be thrown away and made anew by `python -m services.projector rebuild`, which makes its
-- tables with LIKE. So no index or constraint is named here: PostgreSQL then gives the copies the same names.

CREATE TABLE orders (
    id uuid PRIMARY KEY,
    network varchar NOT NULL,
    size_mb integer NOT NULL,
    phone_number varchar NOT NULL,
    price numeric,
    package_id varchar,
    account varchar,
    fulfillment_status varchar NOT NULL CHECK (fulfillment_status IN ('pending', 'processing', 'success', 'failed')),
    -- A bundle's order is its delivery and nothing else.
    status varchar GENERATED ALWAYS AS (fulfillment_status) STORED,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE fulfillment_logs (
    id uuid PRIMARY KEY,
    order_id uuid NOT NULL UNIQUE REFERENCES orders (id),
    network varchar NOT NULL,
    phone_number varchar NOT NULL,
    status varchar NOT NULL CHECK (status IN ('pending', 'processing', 'success', 'failed')),
    attempt_number integer NOT NULL,
    max_attempts integer NOT NULL,
    api_response jsonb,
    error_message text,
    retry_after timestamptz,
    fulfilled_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    -- The columns above are the customers' queries'; those below are ours.
    size_mb integer NOT NULL,
    price numeric,
    package_id varchar,
    account varchar,
    provider varchar,
    state varchar NOT NULL CHECK (state IN (
        'received', 'created', 'held', 'attempting', 'accepted', 'unknown', 'review', 'waiting', 'settling',
        'delivered', 'failed', 'cancelled', 'rejected'
    )),
    -- Of the last event applied; 0 while the fulfiller has not answered the order yet.
    sequence integer NOT NULL CHECK (sequence >= 0),
    reference varchar,
    trigger varchar,
    transaction_id varchar,
    error_code varchar,
    next_act varchar,
    next_at timestamptz,
    schedule_id integer,
    -- The last command answered, and why it was rejected.
    command_id uuid,
    command_rejected text,
    -- The log contradicts itself about this order: nothing further is applied to it.
    quarantined boolean NOT NULL DEFAULT false
);

CREATE INDEX ON fulfillment_logs (created_at, id);
CREATE INDEX ON fulfillment_logs (network, created_at, id);
CREATE INDEX ON fulfillment_logs (phone_number, created_at, id);
-- Nearly every row ends as a success: the others are few, and are the ones asked for by status.
CREATE INDEX ON fulfillment_logs (status, created_at, id) WHERE status <> 'success';
CREATE INDEX ON fulfillment_logs (retry_after) WHERE status = 'failed';

-- Where the view stands in the log; moved in the transaction that changes the rows.
CREATE TABLE positions (
    topic varchar NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);

-- Records of fulfillment.events that do not follow what was applied before.
CREATE TABLE quarantine (
    topic varchar NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    order_id uuid,
    sequence_expected bigint,
    sequence_seen bigint,
    why text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (topic, partition, "offset")
);
CREATE INDEX ON quarantine (order_id);

CREATE TABLE dead_letters (
    -- Its own place in the dead-letter topic.
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    at timestamptz NOT NULL,
    -- Where it was found, and why it can never be acted on.
    original_topic varchar,
    original_partition integer,
    original_offset bigint,
    reason varchar NOT NULL,
    message text,
    order_id uuid,
    key bytea,
    value bytea,
    -- [{"name": …, "value": text}], or "base64" in place of "value" where it is no text.
    headers jsonb NOT NULL,
    PRIMARY KEY (partition, "offset")
);
CREATE INDEX ON dead_letters (order_id);
CREATE INDEX ON dead_letters (reason, at);

-- migrate:down

DROP TABLE dead_letters, quarantine, positions, fulfillment_logs, orders;
