-- What a vote is bound to, and words that changed nothing.

ALTER TABLE approvals
    ADD COLUMN plan_digest text NOT NULL DEFAULT '',
    ADD COLUMN head text,
    ADD COLUMN base text,
    ADD COLUMN authors text[] NOT NULL DEFAULT '{}',
    ADD COLUMN asked_at timestamptz NOT NULL DEFAULT clock_timestamp();
COMMENT ON COLUMN approvals.head IS 'the commit asked about, or the pull request''s head when asked';
COMMENT ON COLUMN approvals.asked_at IS 'real time; requested_at is in the time of the operated world';

ALTER TABLE votes
    ADD COLUMN teams text[] NOT NULL DEFAULT '{}',
    ADD COLUMN statement jsonb,
    ADD COLUMN statement_digest text,
    ADD COLUMN digest text NOT NULL DEFAULT '',
    ADD COLUMN event_id uuid,
    ADD COLUMN signal_key text UNIQUE;
COMMENT ON COLUMN votes.statement IS 'all that the vote says; its digest is beside it';
COMMENT ON COLUMN votes.digest IS 'the digest that the voter named, right or wrong';
COMMENT ON COLUMN votes.signal_key IS 'run and number of the signal it came as; counted once';
-- From here on a vote that counts says what it is for.
ALTER TABLE votes ADD CONSTRAINT votes_say_what
    CHECK (refused IS NOT NULL OR (statement IS NOT NULL AND statement_digest IS NOT NULL))
    NOT VALID;
CREATE INDEX votes_event ON votes (event_id) WHERE event_id IS NOT NULL;

CREATE TABLE refusals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    command text NOT NULL,
    principal text NOT NULL,
    reason text NOT NULL,
    via text NOT NULL,
    at timestamptz NOT NULL,
    event_id uuid,
    run_id uuid,
    signal_seq integer,
    repo text,
    number integer,
    comment_id bigint,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (run_id, signal_seq)
);
COMMENT ON TABLE refusals IS 'commands that changed nothing, and why; refused votes are in votes';
CREATE INDEX refusals_event ON refusals (event_id) WHERE event_id IS NOT NULL;

CREATE OR REPLACE FUNCTION fermata_doc(a approvals) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'id', a.id, 'run_id', a.run_id, 'step_id', a.step_id, 'scope', a.scope, 'digest', a.digest,
        'policy_digest', a.policy_digest, 'environment', a.environment, 'risk', a.risk,
        'question', a.question, 'author', a.author, 'requirement', a.requirement,
        'requested_at', a.requested_at, 'expires_at', a.expires_at, 'state', a.state,
        'plan_digest', a.plan_digest, 'head', a.head, 'base', a.base, 'authors', a.authors,
        'asked_at', a.asked_at,
        'votes', coalesce((
            SELECT json_agg(json_build_object(
                'principal', v.principal, 'roles', v.roles, 'decision', v.decision,
                'comment', v.comment, 'via', v.via, 'at', v.at, 'teams', v.teams,
                'statement', coalesce(v.statement_digest, '')) ORDER BY v.id)
            FROM votes v WHERE v.approval_id = a.id AND v.refused IS NULL), '[]'));
$$;

CREATE FUNCTION fermata_doc(x refusals) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'kind', x.kind, 'command', x.command, 'principal', x.principal, 'reason', x.reason,
        'via', x.via, 'at', x.at, 'event_id', x.event_id, 'run_id', x.run_id,
        'signal_seq', x.signal_seq, 'repo', x.repo, 'number', x.number,
        'comment_id', x.comment_id);
$$;

-- Take a lock from one run and no other: between the decision and this the next may have got it.
CREATE FUNCTION fermata_unlock_of(p_key text, p_run uuid, p_principal text, p_reason text)
RETURNS uuid
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM fermata_lock_key(p_key);
    PERFORM FROM locks WHERE key = p_key AND run_id = p_run;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN fermata_unlock(p_key, p_principal, p_reason);
END $$;
