-- Standing in line is news once: `joined` says that the run was not in the queue before.
CREATE OR REPLACE FUNCTION fermata_acquire(p_run uuid, p_fence integer, p_key text) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    v_holder uuid;
    v_since timestamptz;
    v_called integer;
    v_joined boolean;
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
    v_joined := FOUND;
    RETURN (SELECT json_build_object(
                'key', p_key, 'run_id', id, 'title', title, 'since', v_since,
                'joined', v_joined,
                'ahead', (SELECT count(*) FROM lock_queue q JOIN runs r ON r.id = q.run_id
                          WHERE q.key = p_key AND r.finished_at IS NULL
                            AND q.seq < (SELECT seq FROM lock_queue
                                         WHERE key = p_key AND run_id = p_run)))
            FROM runs WHERE id = v_holder);
END $$;

-- A run that has done all it wanted with a target lets the next one have it before its own end.
CREATE FUNCTION fermata_give(p_run uuid, p_fence integer, p_key text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM fermata_lock_key(p_key);
    PERFORM fermata_hold(p_run, p_fence);
    DELETE FROM locks WHERE key = p_key AND run_id = p_run;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM fermata_call_next(p_key);
    RETURN true;
END $$;
