-- Tables of Fermata. Times are timestamptz; `due_at` and the times of approvals, overrides and
-- events are in the time of the operated world, all others are the database's own.

CREATE TABLE workers (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    ttl interval NOT NULL,
    until timestamptz NOT NULL,
    robbed boolean NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
COMMENT ON COLUMN workers.until IS 'its leases hold until then; extended by every heartbeat';
COMMENT ON COLUMN workers.robbed IS 'a lease of it was taken over after it had run out';

CREATE TABLE events (
    id uuid PRIMARY KEY,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    source text NOT NULL,
    delivery_id text NOT NULL,
    body_digest text NOT NULL,
    received_at timestamptz NOT NULL,
    kind text NOT NULL,
    body jsonb NOT NULL,
    payload bytea,
    status text NOT NULL CHECK (status IN ('accepted', 'ignored')),
    reason text NOT NULL DEFAULT '',
    thread_id uuid,
    run_ids uuid[] NOT NULL DEFAULT '{}',
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT events_delivery UNIQUE (source, delivery_id),
    CONSTRAINT events_digest UNIQUE (source, body_digest)
);
CREATE INDEX events_seq ON events (seq DESC);

CREATE TABLE runs (
    id uuid PRIMARY KEY,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    thread_id uuid NOT NULL,
    change_key text NOT NULL,
    supersede_group text,
    goal text NOT NULL,
    title text NOT NULL,
    repo text,
    number integer,
    sha text,
    author text NOT NULL,
    event_id uuid NOT NULL, -- no foreign key: fermata_accept writes the event last, in one go
    state text NOT NULL DEFAULT 'queued' CHECK (state IN (
        'queued', 'running', 'waiting', 'needs_approval', 'succeeded', 'rolled_back', 'denied',
        'failed', 'superseded', 'cancelled')),
    reason text NOT NULL DEFAULT '',
    step_id text,
    due_at timestamptz,
    wake boolean NOT NULL DEFAULT false,
    worker_id uuid,
    fence integer NOT NULL DEFAULT 0,
    started boolean NOT NULL DEFAULT false,
    signal_seq integer NOT NULL DEFAULT 0,
    seen_seq integer NOT NULL DEFAULT 0,
    superseded_by uuid,
    targets text[] NOT NULL DEFAULT '{}',
    plan jsonb,
    plan_digest text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    CHECK ((finished_at IS NOT NULL) = (state IN (
        'succeeded', 'rolled_back', 'denied', 'failed', 'superseded', 'cancelled'))),
    CHECK (finished_at IS NULL OR worker_id IS NULL)
) WITH (fillfactor = 80);
COMMENT ON COLUMN runs.fence IS 'fencing token: grows with every lease';
COMMENT ON COLUMN runs.signal_seq IS 'number of the latest signal; seen_seq: the latest one read';

-- One run of a thread at a time.
CREATE UNIQUE INDEX runs_active_thread ON runs (thread_id) WHERE finished_at IS NULL;
CREATE INDEX runs_thread ON runs (thread_id, seq DESC);
CREATE INDEX runs_newest ON runs (seq DESC);
CREATE INDEX runs_repo ON runs (repo, seq DESC);
CREATE INDEX runs_active_sha ON runs (sha) WHERE finished_at IS NULL;
CREATE INDEX runs_active_number ON runs (repo, number) WHERE finished_at IS NULL;
CREATE INDEX runs_active_group ON runs (supersede_group, seq)
    WHERE finished_at IS NULL AND superseded_by IS NULL AND supersede_group IS NOT NULL;
-- What the sweeper reads: each holds only the rows that may have to be advanced.
CREATE INDEX runs_ready ON runs (created_at) INCLUDE (id)
    WHERE finished_at IS NULL AND worker_id IS NULL AND (wake OR state IN ('queued', 'running'));
CREATE INDEX runs_timer ON runs (due_at) INCLUDE (id)
    WHERE finished_at IS NULL AND worker_id IS NULL AND due_at IS NOT NULL;
CREATE INDEX runs_leased ON runs (worker_id) INCLUDE (id) WHERE worker_id IS NOT NULL;
-- What the pages read; runs under way are few enough to be filtered.
CREATE INDEX runs_ended ON runs (state, seq DESC) WHERE finished_at IS NOT NULL;

CREATE TABLE run_services (
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    service text NOT NULL,
    run_seq bigint NOT NULL,
    active boolean NOT NULL DEFAULT true,
    PRIMARY KEY (run_id, service)
);
CREATE INDEX run_services_newest ON run_services (service, run_seq DESC);
CREATE INDEX run_services_active ON run_services (service) WHERE active;

CREATE TABLE run_path (
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    seq integer NOT NULL,
    node text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (run_id, seq)
);

CREATE TABLE signals (
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    seq integer NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    event_id uuid,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, seq)
);

CREATE TABLE ci_facts (
    repo text NOT NULL,
    sha text NOT NULL,
    source text NOT NULL,
    name text NOT NULL,
    conclusion text,
    url text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (repo, sha, source, name)
);

CREATE TABLE approvals (
    id uuid PRIMARY KEY,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    step_id text NOT NULL,
    scope text NOT NULL,
    digest text NOT NULL,
    policy_digest text NOT NULL,
    environment text NOT NULL,
    risk text NOT NULL,
    question text NOT NULL,
    author text NOT NULL,
    requirement jsonb NOT NULL,
    requested_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN (
        'pending', 'approved', 'rejected', 'expired', 'dismissed', 'spent')),
    settled_at timestamptz,
    UNIQUE (id, run_id)
);
CREATE UNIQUE INDEX approvals_one_pending ON approvals (run_id, digest) WHERE state = 'pending';
CREATE INDEX approvals_run ON approvals (run_id, seq);
CREATE INDEX approvals_state ON approvals (state, seq DESC);

CREATE TABLE votes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    approval_id uuid NOT NULL REFERENCES approvals ON DELETE CASCADE,
    principal text NOT NULL,
    roles text[] NOT NULL,
    decision text NOT NULL CHECK (decision IN ('approve', 'reject')),
    comment text NOT NULL,
    via text NOT NULL,
    at timestamptz NOT NULL,
    refused text,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN votes.refused IS 'why the vote does not count; NULL: it counts';
CREATE INDEX votes_approval ON votes (approval_id, id);

CREATE TABLE decisions (
    id uuid PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    seq integer NOT NULL,
    step_id text NOT NULL,
    action_kind text NOT NULL,
    action_digest text NOT NULL,
    scope text NOT NULL,
    scope_digest text NOT NULL,
    plan_digest text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('allow', 'deny', 'needs_approval', 'wait')),
    decision jsonb NOT NULL,
    facts jsonb NOT NULL,
    approval_id uuid,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (run_id, seq),
    -- what an effect refers to
    UNIQUE (id, run_id, action_digest, outcome),
    FOREIGN KEY (approval_id, run_id) REFERENCES approvals (id, run_id)
);
CREATE INDEX decisions_step ON decisions (run_id, step_id, seq DESC);

CREATE TABLE effects (
    id uuid PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    step_id text NOT NULL,
    action_kind text NOT NULL,
    digest text NOT NULL,
    scope_digest text NOT NULL,
    decision_id uuid NOT NULL,
    decision_outcome text NOT NULL DEFAULT 'allow' CHECK (decision_outcome = 'allow'),
    approval_id uuid,
    state text NOT NULL CHECK (state IN ('started', 'applied', 'refused', 'unknown')),
    action jsonb NOT NULL,
    result jsonb,
    error text NOT NULL DEFAULT '',
    tries integer NOT NULL DEFAULT 1 CHECK (tries > 0),
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    UNIQUE (run_id, step_id, digest),
    CHECK (state <> 'applied' OR result IS NOT NULL),
    -- No effect without a decision that allows exactly this action in this run.
    FOREIGN KEY (decision_id, run_id, digest, decision_outcome)
        REFERENCES decisions (id, run_id, action_digest, outcome),
    FOREIGN KEY (approval_id, run_id) REFERENCES approvals (id, run_id)
);

CREATE TABLE verdicts (
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    seq integer NOT NULL,
    step_id text NOT NULL,
    phase text NOT NULL,
    verdict jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, seq)
);

CREATE TABLE metric_windows (
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    step_id text NOT NULL,
    start timestamptz NOT NULL,
    metric text NOT NULL,
    body jsonb NOT NULL,
    PRIMARY KEY (run_id, step_id, start, metric)
);

CREATE TABLE locks (
    key text PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX locks_run ON locks (run_id);

CREATE TABLE lock_queue (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    key text NOT NULL,
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    called_seq integer,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (key, run_id)
);
COMMENT ON COLUMN lock_queue.called_seq IS 'number of the signal that said it is the run''s turn';
CREATE INDEX lock_queue_run ON lock_queue (run_id);

CREATE TABLE lock_removals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL,
    run_id uuid NOT NULL,
    principal text NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE releases (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    service text NOT NULL,
    environment text NOT NULL,
    image text NOT NULL,
    sha text,
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    status text NOT NULL CHECK (status IN ('good', 'bad')),
    reason text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (service, environment, image, run_id, status)
);
CREATE INDEX releases_place ON releases (service, environment, seq DESC);

CREATE TABLE overrides (
    id uuid PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    change_key text NOT NULL,
    principal text NOT NULL,
    roles text[] NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    UNIQUE (run_id, principal, reason, expires_at)
);
CREATE INDEX overrides_change ON overrides (change_key, at);
