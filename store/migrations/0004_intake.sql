-- Accepting an event: everything it asks for, in one call and one transaction.

CREATE FUNCTION fermata_supersede(p_group text, p_by uuid, p_event uuid) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_by record;
    v_run record;
    v_count integer := 0;
BEGIN
    SELECT change_key, seq INTO v_by FROM runs WHERE id = p_by;
    -- Rows that another acceptance is superseding right now are skipped instead of waited for.
    FOR v_run IN
        SELECT id FROM runs
        WHERE supersede_group = p_group AND finished_at IS NULL AND superseded_by IS NULL
          AND change_key <> v_by.change_key AND seq < v_by.seq
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        WITH told AS (
            UPDATE runs SET superseded_by = p_by, signal_seq = signal_seq + 1, wake = true
            WHERE id = v_run.id RETURNING signal_seq)
        INSERT INTO signals (run_id, seq, kind, payload, event_id)
        SELECT v_run.id, signal_seq, 'superseded',
               jsonb_build_object('by', p_by, 'key', v_by.change_key), p_event
        FROM told;
        v_count := v_count + 1;
    END LOOP;
    RETURN v_count;
END $$;

CREATE FUNCTION fermata_group_key(p_group text) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT hashtextextended('fermata group ' || p_group, 0); $$;

-- Two changes of a group that are accepted at the same moment do not see each other. The one that
-- does not get the group's lock at once comes back here after its commit, and then waits for it.
CREATE FUNCTION fermata_settle_group(p_group text) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_newest record;
BEGIN
    PERFORM pg_advisory_xact_lock(fermata_group_key(p_group));
    SELECT id, event_id INTO v_newest FROM runs
    WHERE supersede_group = p_group AND finished_at IS NULL AND superseded_by IS NULL
    ORDER BY seq DESC LIMIT 1;
    RETURN fermata_supersede(p_group, v_newest.id, v_newest.event_id);
END $$;

CREATE FUNCTION fermata_start(p_ask jsonb, p_event uuid) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
    v_thread uuid := (p_ask ->> 'thread_id')::uuid;
    v_run uuid;
    v_active boolean;
BEGIN
    LOOP
        SELECT id, finished_at IS NULL INTO v_run, v_active FROM runs
        WHERE thread_id = v_thread ORDER BY seq DESC LIMIT 1;
        IF FOUND AND (v_active OR NOT (p_ask ->> 'again')::boolean) THEN
            RETURN v_run;
        END IF;
        INSERT INTO runs (id, thread_id, change_key, supersede_group, goal, title, repo, number,
                          sha, author, event_id)
        VALUES ((p_ask ->> 'run_id')::uuid, v_thread, p_ask ->> 'change_key',
                p_ask ->> 'supersede_group', p_ask ->> 'goal', p_ask ->> 'title',
                p_ask ->> 'repo', (p_ask ->> 'number')::integer, p_ask ->> 'sha',
                p_ask ->> 'author', p_event)
        ON CONFLICT (thread_id) WHERE finished_at IS NULL DO NOTHING
        RETURNING id INTO v_run;
        IF FOUND THEN
            IF p_ask ->> 'supersede_group' IS NOT NULL THEN
                PERFORM fermata_supersede(p_ask ->> 'supersede_group', v_run, p_event);
            END IF;
            RETURN v_run;
        END IF;
        -- Somebody else has just started the run of this thread: join it.
    END LOOP;
END $$;

-- Runs that an address names: those under way; where finished ones count too and none is under
-- way, the latest finished one. Each branch leads with a criterion that has an index.
CREATE FUNCTION fermata_addressed(p_to jsonb) RETURNS uuid[]
LANGUAGE plpgsql AS $$
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
            WHERE sha = v_sha AND finished_at IS NULL
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
            WHERE number = v_number AND finished_at IS NULL
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

CREATE FUNCTION fermata_accept(
    p_id uuid, p_source text, p_delivery text, p_digest text, p_received timestamptz,
    p_kind text, p_body jsonb, p_payload bytea, p_asks jsonb
) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    v_known record;
    v_ask jsonb;
    v_run uuid;
    v_told uuid[];
    v_runs uuid[] := '{}';
    v_thread uuid;
    v_remarks text[] := '{}';
    v_misses text[] := '{}';
    v_crowded text[] := '{}';
    v_reason text;
BEGIN
    SELECT id, thread_id, run_ids INTO v_known FROM (
        SELECT * FROM events WHERE source = p_source AND delivery_id = p_delivery
        UNION ALL
        SELECT * FROM events WHERE source = p_source AND body_digest = p_digest) e LIMIT 1;
    IF FOUND THEN
        RETURN json_build_object(
            'event_id', v_known.id, 'status', 'duplicate', 'run_id', v_known.run_ids[1],
            'thread_id', v_known.thread_id, 'run_ids', v_known.run_ids);
    END IF;
    IF p_kind = 'ci_result' THEN
        INSERT INTO ci_facts (repo, sha, source, name, conclusion, url, at)
        VALUES (p_body ->> 'repo', p_body ->> 'sha', p_body ->> 'source', p_body ->> 'name',
                p_body ->> 'conclusion', coalesce(p_body ->> 'url', ''), p_received)
        ON CONFLICT (repo, sha, source, name) DO UPDATE
        SET conclusion = excluded.conclusion, url = excluded.url, at = excluded.at
        WHERE ci_facts.at <= excluded.at;
    END IF;
    FOR v_ask IN SELECT * FROM jsonb_array_elements(p_asks) LOOP
        CASE v_ask ->> 'ask'
            WHEN 'start' THEN
                IF v_ask ->> 'supersede_group' IS NOT NULL AND NOT pg_try_advisory_xact_lock(
                    fermata_group_key(v_ask ->> 'supersede_group')) THEN
                    v_crowded := v_crowded || (v_ask ->> 'supersede_group');
                END IF;
                v_run := fermata_start(v_ask, p_id);
                v_runs := v_runs || v_run;
            WHEN 'signal' THEN
                v_told := ARRAY(
                    SELECT id FROM runs WHERE id = ANY (fermata_addressed(v_ask))
                    ORDER BY id FOR NO KEY UPDATE);
                FOREACH v_run IN ARRAY v_told LOOP
                    PERFORM fermata_signal(
                        v_run, v_ask ->> 'kind', v_ask -> 'payload', p_id);
                END LOOP;
                v_runs := v_runs || v_told;
                IF cardinality(v_told) = 0 THEN
                    v_misses := v_misses || (v_ask ->> 'missed');
                END IF;
            WHEN 'ignore' THEN
                v_remarks := v_remarks || (v_ask ->> 'reason');
        END CASE;
    END LOOP;
    -- Commands that reached nobody are worth a word even when others of the event did.
    IF cardinality(v_runs) = 0 OR p_kind = 'command' THEN
        v_remarks := v_remarks || v_misses;
    END IF;
    v_reason := array_to_string(v_remarks, '; ');
    v_runs := ARRAY(
        SELECT id FROM unnest(v_runs) WITH ORDINALITY AS u (id, ord)
        GROUP BY id ORDER BY min(ord));
    SELECT thread_id INTO v_thread FROM runs WHERE id = v_runs[1];
    INSERT INTO events (id, source, delivery_id, body_digest, received_at, kind, body, payload,
                        status, reason, thread_id, run_ids)
    VALUES (p_id, p_source, p_delivery, p_digest, p_received, p_kind, p_body, p_payload,
            CASE WHEN cardinality(v_runs) = 0 THEN 'ignored' ELSE 'accepted' END,
            v_reason, v_thread, v_runs);
    RETURN json_build_object(
        'event_id', p_id,
        'status', CASE WHEN cardinality(v_runs) = 0 THEN 'ignored' ELSE 'accepted' END,
        'run_id', v_runs[1], 'thread_id', v_thread, 'run_ids', v_runs, 'reason', v_reason,
        'crowded', v_crowded);
END $$;

-- Many at once: each stands for itself, the flush to disk is shared.
CREATE FUNCTION fermata_accept_all(p_events jsonb, p_payloads bytea[]) RETURNS SETOF json
LANGUAGE sql AS $$
    SELECT fermata_accept(
        (e ->> 'id')::uuid, e ->> 'source', e ->> 'delivery', e ->> 'digest',
        (e ->> 'received')::timestamptz, e ->> 'kind', e -> 'body', p_payloads[ord],
        e -> 'asks')
    FROM jsonb_array_elements(p_events) WITH ORDINALITY AS u (e, ord) ORDER BY ord;
$$;
