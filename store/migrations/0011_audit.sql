-- The audit record: what was taken in, planned, decided, approved, overridden and done, one row
-- each, written by triggers in the transaction of the row that it records. Rows are only ever added.
--
-- Writers do not wait for one another: they add to `audit` without knowing what comes before them.
-- `fermata_audit_link` numbers and chains what has been committed, some hundred milliseconds later,
-- one caller at a time, by adding to `audit_links`. Neither table is ever updated.

CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    run_id uuid,
    at timestamptz NOT NULL,
    record text NOT NULL
);
COMMENT ON COLUMN audit.record IS 'JSON text; what is hashed are its very bytes';
CREATE INDEX audit_run ON audit (run_id, id) WHERE run_id IS NOT NULL;

CREATE TABLE audit_links (
    seq bigint PRIMARY KEY,
    audit_id bigint NOT NULL UNIQUE,
    linked_at timestamptz NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);
COMMENT ON COLUMN audit_links.hash IS
    'sha256(hash of seq - 1 (32 zero bytes for the first) || sha256(fermata_audit_text))';

-- Only saves looking at old rows again; nothing is proven by it.
CREATE TABLE audit_progress (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    done_to bigint NOT NULL,
    next_done_to bigint,
    next_xid xid8
);
COMMENT ON COLUMN audit_progress.done_to IS 'every row up to this id is linked, or never came to be';
COMMENT ON COLUMN audit_progress.next_done_to IS
    'the next done_to, once every transaction up to next_xid has ended';
INSERT INTO audit_progress (done_to) VALUES (0);

-- Which policies decided, and since when; a policy that decides without having been announced is
-- written down by its first decision.
CREATE TABLE policies (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest text NOT NULL,
    source text NOT NULL,
    override_roles text[],
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN policies.override_roles IS 'who may override under it; NULL: not known';
CREATE INDEX policies_digest ON policies (digest);

CREATE FUNCTION fermata_audit_refuse() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit rows are only ever added: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION fermata_audit_refuse();
CREATE TRIGGER audit_links_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_links
    FOR EACH STATEMENT EXECUTE FUNCTION fermata_audit_refuse();
-- Also where a session says that it merely replays what others have done.
ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_only_grows;
ALTER TABLE audit_links ENABLE ALWAYS TRIGGER audit_links_only_grows;

-- Writing ------------------------------------------------------------------------------------

CREATE FUNCTION fermata_audit(p_kind text, p_run uuid, p_data jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_at timestamptz := clock_timestamp();
BEGIN
    INSERT INTO audit (kind, run_id, at, record)
    VALUES (p_kind, p_run, v_at, jsonb_build_object(
        'at', v_at, 'kind', p_kind, 'run', p_run, 'data', p_data)::text);
END $$;

CREATE FUNCTION fermata_audit_digest(p_text text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT encode(sha256(convert_to(p_text, 'UTF8')), 'hex'); $$;

-- Raw bodies by digest only.
CREATE FUNCTION fermata_audit_data(e events) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', e.id, 'source', e.source, 'delivery', e.delivery_id, 'digest', e.body_digest,
        'event', e.kind, 'author', e.body #>> '{author,login}', 'received', e.received_at,
        'status', e.status, 'reason', e.reason, 'thread', e.thread_id, 'runs', e.run_ids);
$$;

CREATE FUNCTION fermata_audit_data(r runs) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'digest', r.plan_digest, 'event', r.event_id, 'change', r.change_key, 'goal', r.goal,
        'title', r.title, 'author', r.author, 'repo', r.repo, 'number', r.number, 'sha', r.sha,
        'targets', r.targets, 'fence', r.fence,
        'steps', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'id', s -> 'id', 'scope', s -> 'scope', 'action', s #> '{action,kind}')), '[]')
            FROM jsonb_array_elements(r.plan -> 'steps') AS s));
$$;

CREATE FUNCTION fermata_audit_data(d decisions) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', d.id, 'number', d.seq, 'step', d.step_id, 'action', d.action_kind,
        'action_digest', d.action_digest, 'scope', d.scope, 'scope_digest', d.scope_digest,
        'plan_digest', d.plan_digest, 'outcome', d.outcome, 'decision', d.decision,
        'facts_digest', fermata_audit_digest(d.facts::text),
        'overrides', coalesce(d.facts -> 'overrides', '[]'), 'approval', d.approval_id,
        'fence', (SELECT fence FROM runs WHERE id = d.run_id));
$$;

-- All columns, so that whatever an approval comes to be bound to is in here, too.
CREATE FUNCTION fermata_audit_data(a approvals) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT to_jsonb(a) - ARRAY['seq', 'run_id', 'state', 'settled_at'];
$$;

CREATE FUNCTION fermata_audit_data(v votes) RETURNS jsonb
LANGUAGE sql STABLE AS $$ SELECT to_jsonb(v) - ARRAY['id', 'stored_at']; $$;

CREATE FUNCTION fermata_audit_data(o overrides) RETURNS jsonb
LANGUAGE sql STABLE AS $$ SELECT to_jsonb(o) - 'run_id'; $$;

CREATE FUNCTION fermata_audit_data(s signals) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'number', s.seq, 'command', s.kind, 'event', s.event_id, 'said', s.payload);
$$;

-- The action by its digest, of its result what is for people.
CREATE FUNCTION fermata_audit_data(f effects) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', f.id, 'step', f.step_id, 'action', f.action_kind, 'digest', f.digest,
        'scope_digest', f.scope_digest, 'decision', f.decision_id, 'approval', f.approval_id,
        'state', f.state, 'tries', f.tries, 'started', f.started_at, 'error', f.error,
        'summary', f.result ->> 'summary', 'simulated', f.result -> 'simulated',
        'fence', (SELECT fence FROM runs WHERE id = f.run_id));
$$;

CREATE FUNCTION fermata_audit_data(p policies) RETURNS jsonb
LANGUAGE sql STABLE AS $$ SELECT to_jsonb(p) - ARRAY['seq', 'at']; $$;

CREATE FUNCTION fermata_audit_data(l lock_removals) RETURNS jsonb
LANGUAGE sql STABLE AS $$ SELECT to_jsonb(l) - ARRAY['id', 'run_id', 'at']; $$;

-- Signals that one part of the house sends another; all others are the words of people.
CREATE FUNCTION fermata_audit_inner(p_kind text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT p_kind IN ('vote', 'override_added', 'lock_free', 'superseded', 'ci_result', 'alert',
                      'closed');
$$;

-- Triggers: with the rights of the owner, so that nobody else needs the right to add rows.

CREATE FUNCTION fermata_audit_event() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM fermata_audit('event', NULL, fermata_audit_data(NEW));
    RETURN NULL;
END $$;
CREATE TRIGGER events_audit AFTER INSERT ON events
    FOR EACH ROW EXECUTE FUNCTION fermata_audit_event();

CREATE FUNCTION fermata_audit_plan() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM fermata_audit('plan', NEW.id, fermata_audit_data(NEW));
    RETURN NULL;
END $$;
CREATE TRIGGER runs_audit AFTER UPDATE OF plan_digest ON runs
    FOR EACH ROW WHEN (NEW.plan_digest IS DISTINCT FROM OLD.plan_digest)
    EXECUTE FUNCTION fermata_audit_plan();

CREATE FUNCTION fermata_audit_decision() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM policies WHERE digest = NEW.decision ->> 'policy_digest') THEN
        INSERT INTO policies (digest, source)
        VALUES (NEW.decision ->> 'policy_digest', 'a decision');
    END IF;
    PERFORM fermata_audit('decision', NEW.run_id, fermata_audit_data(NEW));
    RETURN NULL;
END $$;
CREATE TRIGGER decisions_audit AFTER INSERT ON decisions
    FOR EACH ROW EXECUTE FUNCTION fermata_audit_decision();

CREATE FUNCTION fermata_audit_approval() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM fermata_audit('approval.asked', NEW.run_id, fermata_audit_data(NEW));
        RETURN NULL;
    END IF;
    IF fermata_audit_data(NEW) <> fermata_audit_data(OLD) THEN
        PERFORM fermata_audit('approval.changed', NEW.run_id, fermata_audit_data(NEW));
    END IF;
    IF NEW.state <> OLD.state THEN
        PERFORM fermata_audit(
            'approval.' || CASE NEW.state WHEN 'approved' THEN 'granted' ELSE NEW.state END,
            NEW.run_id,
            jsonb_build_object('id', NEW.id, 'digest', NEW.digest, 'before', OLD.state));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER approvals_audit AFTER INSERT OR UPDATE ON approvals
    FOR EACH ROW EXECUTE FUNCTION fermata_audit_approval();

CREATE FUNCTION fermata_audit_vote() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM fermata_audit(
        CASE WHEN NEW.refused IS NULL THEN 'vote.counted' ELSE 'vote.refused' END,
        (SELECT run_id FROM approvals WHERE id = NEW.approval_id),
        fermata_audit_data(NEW));
    RETURN NULL;
END $$;
CREATE TRIGGER votes_audit AFTER INSERT ON votes
    FOR EACH ROW EXECUTE FUNCTION fermata_audit_vote();

CREATE FUNCTION fermata_audit_override() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM fermata_audit(
        CASE TG_OP WHEN 'INSERT' THEN 'override' ELSE 'override.changed' END,
        NEW.run_id, fermata_audit_data(NEW));
    RETURN NULL;
END $$;
CREATE TRIGGER overrides_audit AFTER INSERT OR UPDATE ON overrides
    FOR EACH ROW EXECUTE FUNCTION fermata_audit_override();

CREATE FUNCTION fermata_audit_command() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM fermata_audit('command', NEW.run_id, fermata_audit_data(NEW));
    RETURN NULL;
END $$;
CREATE TRIGGER signals_audit AFTER INSERT ON signals
    FOR EACH ROW WHEN (NOT fermata_audit_inner(NEW.kind))
    EXECUTE FUNCTION fermata_audit_command();

CREATE FUNCTION fermata_audit_effect() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM fermata_audit(
        CASE WHEN TG_OP = 'INSERT' OR NEW.tries <> OLD.tries THEN 'effect.claimed'
             ELSE 'effect.' || NEW.state END,
        NEW.run_id, fermata_audit_data(NEW));
    RETURN NULL;
END $$;
CREATE TRIGGER effects_audit AFTER INSERT OR UPDATE ON effects
    FOR EACH ROW EXECUTE FUNCTION fermata_audit_effect();

CREATE FUNCTION fermata_audit_policy() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM fermata_audit('policy', NULL, fermata_audit_data(NEW));
    RETURN NULL;
END $$;
CREATE TRIGGER policies_audit AFTER INSERT ON policies
    FOR EACH ROW EXECUTE FUNCTION fermata_audit_policy();

CREATE FUNCTION fermata_audit_lock_removal() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM fermata_audit('lock.removed', NEW.run_id, fermata_audit_data(NEW));
    RETURN NULL;
END $$;
CREATE TRIGGER lock_removals_audit AFTER INSERT ON lock_removals
    FOR EACH ROW EXECUTE FUNCTION fermata_audit_lock_removal();

-- Attempts that were turned away before they became a vote or a signal.
CREATE FUNCTION fermata_audit_refusal() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM fermata_audit(
        'refusal', NEW.run_id, to_jsonb(NEW) - ARRAY['id', 'run_id', 'stored_at']);
    RETURN NULL;
END $$;
DO $$
BEGIN
    IF to_regclass('refusals') IS NOT NULL THEN
        CREATE TRIGGER refusals_audit AFTER INSERT ON refusals
            FOR EACH ROW EXECUTE FUNCTION fermata_audit_refusal();
    END IF;
END $$;

-- Linking ------------------------------------------------------------------------------------

-- The text of a chained row that is hashed. `fermata audit export` adds prev and hash at its end.
CREATE FUNCTION fermata_audit_text(p_seq bigint, p_linked timestamptz, p_record text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT '{"seq": ' || p_seq || ', "linked": "'
           || to_char(p_linked AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
           || '", ' || substr(p_record, 2);
$$;

CREATE FUNCTION fermata_audit_step(p_hash bytea, p_digest bytea, p_before bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$ SELECT sha256(coalesce(p_hash, p_before) || p_digest); $$;
CREATE AGGREGATE fermata_audit_chain(bytea, bytea) (SFUNC = fermata_audit_step, STYPE = bytea);

-- Links what has been committed, at most `p_most` rows; how many it linked. Who finds another at it
-- waits for it, or, without `p_wait`, leaves it to the other and answers 0.
CREATE FUNCTION fermata_audit_link(p_most integer, p_wait boolean) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_progress audit_progress;
    v_last audit_links;
    v_ended boolean;
    v_newest bigint;
    v_count integer;
BEGIN
    IF p_wait THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('fermata audit', 0));
    ELSIF NOT pg_try_advisory_xact_lock(hashtextextended('fermata audit', 0)) THEN
        RETURN 0;
    END IF;
    -- Each statement from here on sees what was committed before it, the last link included.
    SELECT * INTO v_progress FROM audit_progress;
    v_ended := v_progress.next_xid < pg_snapshot_xmin(pg_current_snapshot());
    -- Read before this transaction gets a number of its own: whatever has an id up to this one by
    -- then belongs to a transaction with a smaller number.
    SELECT max(id) INTO v_newest FROM audit;
    SELECT * INTO v_last FROM audit_links ORDER BY seq DESC LIMIT 1;
    WITH fresh AS MATERIALIZED (
        SELECT a.id, a.at, a.record FROM audit a
        WHERE a.id > v_progress.done_to
          AND NOT EXISTS (
              SELECT FROM audit_links l
              WHERE l.audit_id = a.id AND l.audit_id > v_progress.done_to)
        ORDER BY a.id LIMIT p_most
    ), moment AS (
        -- The clock may have been set back; the order of the chain goes by what was, all the same.
        SELECT greatest(v_last.linked_at, clock_timestamp(), (SELECT max(at) FROM fresh)) AS at
    ), numbered AS (
        SELECT f.id, m.at, coalesce(v_last.seq, 0) + row_number() OVER (ORDER BY f.id) AS seq,
               f.record
        FROM fresh f, moment m
    )
    INSERT INTO audit_links (seq, audit_id, linked_at, hash)
    SELECT seq, id, at, fermata_audit_chain(
        sha256(convert_to(fermata_audit_text(seq, at, record), 'UTF8')),
        coalesce(v_last.hash, decode(repeat('00', 32), 'hex'))) OVER (ORDER BY seq)
    FROM numbered;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count < p_most AND (v_ended OR (v_count > 0 AND v_progress.next_xid IS NULL)) THEN
        UPDATE audit_progress
        SET done_to = CASE WHEN v_ended THEN next_done_to ELSE done_to END,
            next_done_to = CASE WHEN v_count > 0 THEN v_newest END,
            next_xid = CASE WHEN v_count > 0 THEN pg_current_xact_id() END;
    END IF;
    RETURN v_count;
END $$;

-- Names are looked up where this migration put them, whatever the caller's search path says.
DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT oid FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND prosecdef
          AND starts_with(proname, 'fermata_audit')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp',
                       v_function, current_schema());
    END LOOP;
END $$;

-- Nobody but the triggers writes rows.
REVOKE EXECUTE ON FUNCTION fermata_audit(text, uuid, jsonb) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION fermata_audit_link(integer, boolean) FROM PUBLIC;

-- What there was before ----------------------------------------------------------------------

-- Marked as carried over: when they were written, and under which lease, is not known any more.
CREATE FUNCTION fermata_audit_carry(p_kind text, p_run uuid, p_data jsonb) RETURNS void
LANGUAGE sql AS $$ SELECT fermata_audit(p_kind, p_run, p_data || '{"carried": true}'); $$;

INSERT INTO policies (digest, source)
SELECT decision ->> 'policy_digest', 'a decision' FROM decisions
GROUP BY 1 ORDER BY min(at);

DO $$
BEGIN
    PERFORM fermata_audit_carry('event', NULL, fermata_audit_data(e)) FROM events e ORDER BY e.seq;
    PERFORM fermata_audit_carry('plan', r.id, fermata_audit_data(r))
    FROM runs r WHERE r.plan_digest IS NOT NULL ORDER BY r.seq;
    PERFORM fermata_audit_carry('command', s.run_id, fermata_audit_data(s))
    FROM signals s WHERE NOT fermata_audit_inner(s.kind) ORDER BY s.at, s.run_id, s.seq;
    PERFORM fermata_audit_carry('override', o.run_id, fermata_audit_data(o)) FROM overrides o ORDER BY at;
    PERFORM fermata_audit_carry('approval.asked', a.run_id, fermata_audit_data(a))
    FROM approvals a ORDER BY a.seq;
    PERFORM fermata_audit_carry(
        CASE WHEN v.refused IS NULL THEN 'vote.counted' ELSE 'vote.refused' END,
        a.run_id, fermata_audit_data(v))
    FROM votes v JOIN approvals a ON a.id = v.approval_id ORDER BY v.id;
    PERFORM fermata_audit_carry(
        'approval.' || s.kind, a.run_id,
        jsonb_build_object('id', a.id, 'digest', a.digest, 'before', s.before))
    FROM approvals a
    JOIN (VALUES ('approved', 1, 'granted', 'pending'), ('spent', 1, 'granted', 'pending'),
                 ('spent', 2, 'spent', 'approved'), ('rejected', 1, 'rejected', 'pending'),
                 ('expired', 1, 'expired', 'pending'), ('dismissed', 1, 'dismissed', 'pending'))
        AS s (state, step, kind, before) ON s.state = a.state
    ORDER BY a.seq, s.step;
    PERFORM fermata_audit_carry('decision', d.run_id, fermata_audit_data(d))
    FROM decisions d ORDER BY d.at, d.run_id, d.seq;
    PERFORM fermata_audit_carry('effect.claimed', f.run_id, fermata_audit_data(f))
    FROM effects f ORDER BY f.started_at, f.id;
    PERFORM fermata_audit_carry('effect.' || f.state, f.run_id, fermata_audit_data(f))
    FROM effects f WHERE f.state <> 'started' ORDER BY f.finished_at, f.id;
    PERFORM fermata_audit_carry('lock.removed', l.run_id, fermata_audit_data(l))
    FROM lock_removals l ORDER BY l.id;
END $$;

DROP FUNCTION fermata_audit_carry(text, uuid, jsonb);
