-- Most deliveries are plain: they start one run that supersedes nothing, or report a check of a
-- commit that nobody waits for, or are only recorded. Plain deliveries of one commit are written
-- together, table by table. A statement for each row set up partial indexes and checks anew each
-- time, which was two thirds of what the row cost. Everything else goes through `fermata_accept`
-- one by one, as before, after the plain ones.
--
-- Lookups are scalar subqueries with a limit on purpose: those are never turned into a join that
-- reads a whole table.

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
                   WHERE r.sha = a.ask ->> 'sha' AND r.finished_at IS NULL LIMIT 1) IS NULL
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
