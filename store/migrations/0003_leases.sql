-- Leases, signals and locks. Order of locking, everywhere: advisory locks of lock keys (sorted),
-- then rows of runs, then everything else. SQLSTATE FM001 means that a lease is lost.

CREATE FUNCTION fermata_hold(p_run uuid, p_fence integer) RETURNS uuid
LANGUAGE plpgsql AS $$
BEGIN
    -- The share lock makes whoever takes the run over wait until this transaction has ended.
    PERFORM 1 FROM runs
    WHERE id = p_run AND fence = p_fence AND worker_id IS NOT NULL FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % is no longer held under fence %', p_run, p_fence
            USING ERRCODE = 'FM001';
    END IF;
    RETURN p_run;
END $$;

CREATE FUNCTION fermata_signal(p_run uuid, p_kind text, p_payload jsonb, p_event uuid)
RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_seq integer;
BEGIN
    UPDATE runs SET signal_seq = signal_seq + 1, wake = (finished_at IS NULL)
    WHERE id = p_run RETURNING signal_seq INTO v_seq;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO signals (run_id, seq, kind, payload, event_id)
    VALUES (p_run, v_seq, p_kind, p_payload, p_event);
    RETURN v_seq;
END $$;

CREATE FUNCTION fermata_take(p_run uuid, p_worker uuid, p_now timestamptz) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    v_owner uuid;
    v_due timestamptz;
    v_lease json;
BEGIN
    SELECT worker_id, due_at INTO v_owner, v_due FROM runs r
    WHERE id = p_run
      AND finished_at IS NULL
      AND (wake OR state IN ('queued', 'running') OR due_at <= p_now)
      AND NOT EXISTS (
          SELECT FROM workers w WHERE w.id = r.worker_id AND w.until > clock_timestamp())
    FOR NO KEY UPDATE OF r;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF v_owner IS NOT NULL THEN
        -- Looked at again now that the row is locked: its owner may just have renewed.
        IF EXISTS (SELECT FROM workers WHERE id = v_owner AND until > clock_timestamp()) THEN
            RETURN NULL;
        END IF;
        UPDATE workers SET robbed = true WHERE id = v_owner AND id <> p_worker AND NOT robbed;
    END IF;
    IF NOT EXISTS (SELECT FROM workers WHERE id = p_worker AND until > clock_timestamp()) THEN
        UPDATE workers SET until = clock_timestamp() + ttl WHERE id = p_worker;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    IF v_owner IS NOT NULL THEN
        -- The nodes that its passage went through are lost with it; that it was lost is not.
        PERFORM fermata_append_path(p_run, ARRAY['taken over'], ARRAY[p_now]);
    END IF;
    UPDATE runs r
    SET fence = r.fence + 1, worker_id = p_worker, state = 'running', wake = false,
        due_at = NULL, updated_at = clock_timestamp()
    FROM events e
    WHERE r.id = p_run AND e.id = r.event_id
    RETURNING json_build_object(
        'run_id', r.id, 'thread_id', r.thread_id, 'fence', r.fence, 'worker_id', p_worker,
        'goal', r.goal, 'state', r.state, 'started', r.started OR r.fence > 1,
        'waiting_seq', r.seen_seq, 'due_at', v_due,
        'event', fermata_doc(e))
    INTO v_lease;
    RETURN v_lease;
END $$;

CREATE FUNCTION fermata_check(p_run uuid, p_fence integer, p_worker uuid) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM runs WHERE id = p_run AND fence = p_fence AND worker_id = p_worker;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % is no longer held under fence %', p_run, p_fence
            USING ERRCODE = 'FM001';
    END IF;
    IF EXISTS (SELECT FROM workers WHERE id = p_worker AND until > clock_timestamp()) THEN
        RETURN;
    END IF;
    -- The lease has run out but nobody has taken the run: renewed under the row's lock, so that
    -- a take-over at the same moment either sees the renewal or is seen here.
    PERFORM fermata_hold(p_run, p_fence);
    UPDATE workers SET until = clock_timestamp() + ttl WHERE id = p_worker;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'worker % is not registered', p_worker USING ERRCODE = 'FM001';
    END IF;
END $$;

-- Locks -------------------------------------------------------------------------------------

CREATE FUNCTION fermata_lock_key(p_key text) RETURNS void
LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('fermata lock ' || p_key, 0));
$$;

CREATE FUNCTION fermata_call_next(p_key text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_next uuid;
BEGIN
    DELETE FROM lock_queue q USING runs r
    WHERE q.key = p_key AND r.id = q.run_id AND r.finished_at IS NOT NULL;
    SELECT run_id INTO v_next FROM lock_queue WHERE key = p_key ORDER BY seq LIMIT 1;
    IF FOUND THEN
        UPDATE lock_queue
        SET called_seq = fermata_signal(
            v_next, 'lock_free', jsonb_build_object('key', p_key), NULL)
        WHERE key = p_key AND run_id = v_next;
    END IF;
END $$;

CREATE FUNCTION fermata_acquire(p_run uuid, p_fence integer, p_key text) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    v_holder uuid;
    v_since timestamptz;
    v_called integer;
BEGIN
    PERFORM fermata_lock_key(p_key);
    PERFORM fermata_hold(p_run, p_fence);
    SELECT l.run_id, l.since INTO v_holder, v_since
    FROM locks l JOIN runs r ON r.id = l.run_id
    WHERE l.key = p_key AND r.finished_at IS NULL;
    IF v_holder = p_run THEN
        RETURN NULL;
    END IF;
    IF v_holder IS NULL THEN
        SELECT q.run_id, q.at, q.called_seq INTO v_holder, v_since, v_called
        FROM lock_queue q JOIN runs r ON r.id = q.run_id
        WHERE q.key = p_key AND r.finished_at IS NULL
        ORDER BY q.seq LIMIT 1;
        IF v_holder IS NULL OR v_holder = p_run THEN
            INSERT INTO locks (key, run_id) VALUES (p_key, p_run)
            ON CONFLICT (key) DO UPDATE SET run_id = p_run, since = clock_timestamp();
            DELETE FROM lock_queue WHERE key = p_key AND run_id = p_run;
            RETURN NULL;
        END IF;
        IF v_called IS NULL THEN
            PERFORM fermata_call_next(p_key);
        END IF;
    END IF;
    INSERT INTO lock_queue (key, run_id) VALUES (p_key, p_run) ON CONFLICT DO NOTHING;
    RETURN (SELECT json_build_object(
                'key', p_key, 'run_id', id, 'title', title, 'since', v_since)
            FROM runs WHERE id = v_holder);
END $$;

CREATE FUNCTION fermata_unlock(p_key text, p_principal text, p_reason text) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
    v_run uuid;
BEGIN
    PERFORM fermata_lock_key(p_key);
    DELETE FROM locks WHERE key = p_key RETURNING run_id INTO v_run;
    IF FOUND THEN
        INSERT INTO lock_removals (key, run_id, principal, reason)
        VALUES (p_key, v_run, p_principal, p_reason);
        PERFORM fermata_call_next(p_key);
    END IF;
    RETURN v_run;
END $$;

-- Giving a run back -------------------------------------------------------------------------

CREATE FUNCTION fermata_append_path(p_run uuid, p_nodes text[], p_times timestamptz[])
RETURNS void
LANGUAGE sql AS $$
    INSERT INTO run_path (run_id, seq, node, at)
    SELECT p_run,
           (SELECT coalesce(max(seq), 0) FROM run_path WHERE run_id = p_run) + n.ord,
           n.node, n.at
    FROM unnest(p_nodes, p_times) WITH ORDINALITY AS n (node, at, ord);
$$;

CREATE FUNCTION fermata_release(
    p_run uuid, p_fence integer, p_worker uuid, p_state text, p_final boolean, p_reason text,
    p_step text, p_due timestamptz, p_seen integer, p_nodes text[], p_times timestamptz[]
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_again boolean;
    v_keys text[];
    v_key text;
BEGIN
    -- Only the holder of the lease puts its run into locks and queues, so the keys are stable.
    SELECT array_agg(key ORDER BY key) INTO v_keys FROM (
        SELECT key FROM locks WHERE run_id = p_run
        UNION SELECT key FROM lock_queue WHERE run_id = p_run) k;
    IF v_keys IS NOT NULL THEN
        FOREACH v_key IN ARRAY v_keys LOOP
            PERFORM fermata_lock_key(v_key);
        END LOOP;
    END IF;
    UPDATE runs
    SET worker_id = NULL, state = p_state, reason = p_reason,
        step_id = coalesce(p_step, step_id),
        due_at = CASE WHEN p_final THEN NULL ELSE p_due END,
        seen_seq = greatest(seen_seq, p_seen),
        wake = NOT p_final AND signal_seq > p_seen,
        finished_at = CASE WHEN p_final THEN clock_timestamp() END,
        updated_at = clock_timestamp()
    WHERE id = p_run AND fence = p_fence AND worker_id = p_worker
    RETURNING wake INTO v_again;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % is no longer held under fence %', p_run, p_fence
            USING ERRCODE = 'FM001';
    END IF;
    IF cardinality(p_nodes) > 0 THEN
        PERFORM fermata_append_path(p_run, p_nodes, p_times);
    END IF;
    IF p_final THEN
        UPDATE approvals SET state = 'dismissed', settled_at = clock_timestamp()
        WHERE run_id = p_run AND state = 'pending';
        UPDATE run_services SET active = false WHERE run_id = p_run AND active;
    END IF;
    IF v_keys IS NOT NULL THEN
        IF p_final THEN
            DELETE FROM locks WHERE run_id = p_run;
            DELETE FROM lock_queue WHERE run_id = p_run;
        ELSE
            -- Whoever was called, read it, and goes to sleep without the lock gives its turn away.
            DELETE FROM lock_queue WHERE run_id = p_run AND called_seq <= p_seen;
        END IF;
        FOREACH v_key IN ARRAY v_keys LOOP
            IF NOT EXISTS (SELECT FROM locks WHERE key = v_key)
               AND NOT EXISTS (
                   SELECT FROM lock_queue WHERE key = v_key AND called_seq IS NOT NULL) THEN
                PERFORM fermata_call_next(v_key);
            END IF;
        END LOOP;
    END IF;
    RETURN v_again;
END $$;
