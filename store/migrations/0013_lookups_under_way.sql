-- Runs under way are found by commit and by number through indexes that nothing else fits. While a
-- table is empty, every index with the condition `finished_at IS NULL` looks equally short, and a
-- plan that was made then read all runs under way for each check result and each comment. These
-- indexes hold the key of runs under way (and NULL for the others), and have no condition.

CREATE INDEX runs_sha_under_way ON runs ((CASE WHEN finished_at IS NULL THEN sha END));
CREATE INDEX runs_number_under_way ON runs ((CASE WHEN finished_at IS NULL THEN number END));
DROP INDEX runs_active_sha;
DROP INDEX runs_active_number;

CREATE OR REPLACE FUNCTION fermata_addressed(p_to jsonb) RETURNS uuid[]
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_from uuid := (p_to ->> 'run_from')::uuid;
    v_to uuid := (p_to ->> 'run_to')::uuid;
    v_repo text := p_to ->> 'repo';
    v_number integer := (p_to ->> 'number')::integer;
    v_sha text := p_to ->> 'sha';
    v_service text := p_to ->> 'service';
    v_final boolean := (p_to ->> 'include_final')::boolean;
    v_found uuid[];
BEGIN
    IF v_from IS NOT NULL THEN
        v_found := ARRAY(
            SELECT id FROM runs
            WHERE id BETWEEN v_from AND v_to
              AND (v_final OR finished_at IS NULL)
              AND (v_repo IS NULL OR repo = v_repo)
              AND (v_number IS NULL OR number = v_number)
              AND (v_sha IS NULL OR sha = v_sha)
              AND (v_service IS NULL OR EXISTS (
                  SELECT FROM run_services s WHERE s.run_id = id AND s.service = v_service))
            LIMIT 2);
        -- A prefix that fits several runs names none of them.
        RETURN CASE WHEN cardinality(v_found) = 1 THEN v_found ELSE '{}' END;
    ELSIF v_sha IS NOT NULL THEN
        v_found := ARRAY(
            SELECT id FROM runs
            WHERE CASE WHEN finished_at IS NULL THEN sha END = v_sha
              AND (v_repo IS NULL OR repo = v_repo)
              AND (v_number IS NULL OR number = v_number)
              AND (v_service IS NULL OR EXISTS (
                  SELECT FROM run_services s WHERE s.run_id = id AND s.service = v_service)));
    ELSIF v_service IS NOT NULL THEN
        v_found := ARRAY(
            SELECT id FROM run_services s JOIN runs r ON r.id = s.run_id
            WHERE s.service = v_service AND s.active AND r.finished_at IS NULL
              AND (v_repo IS NULL OR repo = v_repo)
              AND (v_number IS NULL OR number = v_number));
    ELSIF v_number IS NOT NULL THEN
        v_found := ARRAY(
            SELECT id FROM runs
            WHERE CASE WHEN finished_at IS NULL THEN number END = v_number
              AND (v_repo IS NULL OR repo = v_repo));
    ELSIF v_repo IS NOT NULL THEN
        v_found := ARRAY(SELECT id FROM runs WHERE repo = v_repo AND finished_at IS NULL);
    END IF;
    IF v_final AND coalesce(cardinality(v_found), 0) = 0 THEN
        v_found := ARRAY(
            SELECT id FROM runs
            WHERE (v_repo IS NULL OR repo = v_repo)
              AND (v_number IS NULL OR number = v_number)
              AND (v_sha IS NULL OR sha = v_sha)
              AND (v_service IS NULL OR EXISTS (
                  SELECT FROM run_services s WHERE s.run_id = id AND s.service = v_service))
            ORDER BY seq DESC LIMIT 1);
    END IF;
    RETURN coalesce(v_found, '{}');
END $$;

CREATE OR REPLACE FUNCTION fermata_accept_all(p_events jsonb, p_payloads bytea[])
RETURNS SETOF json
LANGUAGE plpgsql AS $$
DECLARE
    v_plain bigint[];
    v_runs uuid[];
    v_facts boolean;
    v_starts bigint;
BEGIN
    WITH asked AS MATERIALIZED (
        SELECT ord, source, delivery, digest, kind, ask, ask ->> 'ask' AS verb,
               jsonb_array_length(asks) AS asks,
               count(*) OVER (PARTITION BY source, delivery) AS same_delivery,
               count(*) OVER (PARTITION BY source, digest) AS same_digest,
               count(*) OVER (PARTITION BY ask ->> 'thread_id') AS same_thread
        FROM (
            SELECT ord, e ->> 'source' AS source, e ->> 'delivery' AS delivery,
                   e ->> 'digest' AS digest, e ->> 'kind' AS kind, e -> 'asks' AS asks,
                   e -> 'asks' -> 0 AS ask
            FROM jsonb_array_elements(p_events) WITH ORDINALITY AS u (e, ord)) d)
    SELECT array_agg(ord), bool_or(kind = 'ci_result'), count(*) FILTER (WHERE verb = 'start')
    INTO v_plain, v_facts, v_starts
    FROM asked a
    WHERE asks = 1 AND same_delivery = 1 AND same_digest = 1
      AND CASE verb
          WHEN 'ignore' THEN true
          WHEN 'start' THEN
              ask ->> 'supersede_group' IS NULL AND same_thread = 1
              AND (SELECT true FROM runs r
                   WHERE r.thread_id = (a.ask ->> 'thread_id')::uuid
                     AND (r.finished_at IS NULL OR NOT (a.ask ->> 'again')::boolean)
                   LIMIT 1) IS NULL
          WHEN 'signal' THEN
              kind = 'ci_result' AND ask ->> 'sha' IS NOT NULL
              AND ask ->> 'run_from' IS NULL AND NOT (ask ->> 'include_final')::boolean
              AND (SELECT true FROM runs r
                   WHERE CASE WHEN r.finished_at IS NULL THEN r.sha END = a.ask ->> 'sha'
                   LIMIT 1) IS NULL
              AND NOT (a.ask ->> 'sha' = ANY (
                  SELECT s.ask ->> 'sha' FROM asked s
                  WHERE s.verb = 'start' AND s.ask ->> 'sha' IS NOT NULL))
          ELSE false
      END
      AND (SELECT true FROM events k
           WHERE k.delivery_id = a.delivery AND k.source = a.source LIMIT 1) IS NULL
      AND (SELECT true FROM events k
           WHERE k.body_digest = a.digest AND k.source = a.source LIMIT 1) IS NULL;
    IF v_starts > 0 THEN
        WITH new AS (
            INSERT INTO runs (id, thread_id, change_key, goal, title, repo, number, sha, author,
                              event_id)
            SELECT (ask ->> 'run_id')::uuid, (ask ->> 'thread_id')::uuid, ask ->> 'change_key',
                   ask ->> 'goal', ask ->> 'title', ask ->> 'repo', (ask ->> 'number')::integer,
                   ask ->> 'sha', ask ->> 'author', event
            FROM (
                SELECT ord, e -> 'asks' -> 0 AS ask, (e ->> 'id')::uuid AS event
                FROM jsonb_array_elements(p_events) WITH ORDINALITY AS u (e, ord)) d
            WHERE ord = ANY (v_plain) AND ask ->> 'ask' = 'start'
            ORDER BY ord
            ON CONFLICT (thread_id) WHERE finished_at IS NULL DO NOTHING
            RETURNING id)
        SELECT array_agg(id) INTO v_runs FROM new;
        IF coalesce(cardinality(v_runs), 0) < v_starts THEN
            -- Somebody else has just started the run of a thread: that delivery joins it.
            v_plain := ARRAY(
                SELECT ord
                FROM jsonb_array_elements(p_events) WITH ORDINALITY AS u (e, ord)
                WHERE ord = ANY (v_plain)
                  AND (e #>> '{asks,0,ask}' <> 'start'
                       OR (e #>> '{asks,0,run_id}')::uuid = ANY (v_runs)));
        END IF;
    END IF;
    IF v_facts THEN
        INSERT INTO ci_facts (repo, sha, source, name, conclusion, url, at)
        SELECT DISTINCT ON (1, 2, 3, 4)
               b ->> 'repo', b ->> 'sha', b ->> 'source', b ->> 'name', b ->> 'conclusion',
               coalesce(b ->> 'url', ''), at
        FROM (
            SELECT ord, e ->> 'kind' AS kind, e -> 'body' AS b,
                   (e ->> 'received')::timestamptz AS at
            FROM jsonb_array_elements(p_events) WITH ORDINALITY AS u (e, ord)) d
        WHERE ord = ANY (v_plain) AND kind = 'ci_result'
        ORDER BY 1, 2, 3, 4, at DESC, ord DESC
        ON CONFLICT (repo, sha, source, name) DO UPDATE
        SET conclusion = excluded.conclusion, url = excluded.url, at = excluded.at
        WHERE ci_facts.at <= excluded.at;
    END IF;
    IF v_plain IS NOT NULL THEN
        INSERT INTO events (id, source, delivery_id, body_digest, received_at, kind, body, payload,
                            status, reason, thread_id, run_ids)
        SELECT (e ->> 'id')::uuid, e ->> 'source', e ->> 'delivery', e ->> 'digest',
               (e ->> 'received')::timestamptz, e ->> 'kind', e -> 'body', p_payloads[ord],
               CASE ask ->> 'ask' WHEN 'start' THEN 'accepted' ELSE 'ignored' END,
               coalesce(ask ->> 'reason', ask ->> 'missed', ''),
               (ask ->> 'thread_id')::uuid,
               CASE ask ->> 'ask'
                   WHEN 'start' THEN ARRAY[(ask ->> 'run_id')::uuid] ELSE '{}' END
        FROM (
            SELECT e, ord, e -> 'asks' -> 0 AS ask
            FROM jsonb_array_elements(p_events) WITH ORDINALITY AS u (e, ord)) d
        WHERE ord = ANY (v_plain)
        ORDER BY ord;
    END IF;
    RETURN QUERY
        SELECT CASE
            WHEN NOT coalesce(ord = ANY (v_plain), false) THEN fermata_accept(
                (e ->> 'id')::uuid, e ->> 'source', e ->> 'delivery', e ->> 'digest',
                (e ->> 'received')::timestamptz, e ->> 'kind', e -> 'body', p_payloads[ord],
                e -> 'asks')
            WHEN ask ->> 'ask' = 'start' THEN json_build_object(
                'event_id', e -> 'id', 'status', 'accepted', 'run_id', ask -> 'run_id',
                'thread_id', ask -> 'thread_id', 'run_ids', ARRAY[ask ->> 'run_id'])
            ELSE json_build_object(
                'event_id', e -> 'id', 'status', 'ignored',
                'reason', coalesce(ask ->> 'reason', ask ->> 'missed', ''))
        END
        FROM (
            SELECT e, ord, e -> 'asks' -> 0 AS ask
            FROM jsonb_array_elements(p_events) WITH ORDINALITY AS u (e, ord)) d
        ORDER BY ord;
END $$;

-- Events of one commit are written together, and so is what the audit record says of them.

CREATE OR REPLACE FUNCTION fermata_audit_event() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO audit (kind, run_id, at, record)
    SELECT 'event', NULL, at, jsonb_build_object(
        'at', at, 'kind', 'event', 'run', NULL, 'data', fermata_audit_data(e))::text
    FROM (SELECT clock_timestamp() AS at, t::events AS e FROM taken_in t ORDER BY t.seq) o;
    RETURN NULL;
END $$;
DROP TRIGGER events_audit ON events;
CREATE TRIGGER events_audit AFTER INSERT ON events
    REFERENCING NEW TABLE AS taken_in
    FOR EACH STATEMENT EXECUTE FUNCTION fermata_audit_event();

-- The first rows of a record may be committed between the look at the newest id, which then found
-- none, and the look at the rows: from then on nothing could be linked any more.
UPDATE audit_progress SET next_done_to = done_to
WHERE next_xid IS NOT NULL AND next_done_to IS NULL;
CREATE OR REPLACE FUNCTION fermata_audit_link(p_most integer, p_wait boolean) RETURNS integer
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
    SELECT coalesce(max(id), v_progress.done_to) INTO v_newest FROM audit;
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

-- As for the other functions of the record: names are looked up where they were put.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION fermata_audit_event() SET search_path = %I, pg_temp',
                   current_schema());
    EXECUTE format('ALTER FUNCTION fermata_audit_link(integer, boolean) '
                   'SET search_path = %I, pg_temp', current_schema());
END $$;
