-- A row as one JSON document, in the shape of its model in store/records.py. Built here, a run
-- with all that belongs to it is one round trip, and pydantic reads it without a detour.

-- A newer change of the group may not have told this run yet; the gate has to know it all the same.
CREATE FUNCTION fermata_superseded_by(r runs) RETURNS uuid
LANGUAGE sql STABLE AS $$
    SELECT coalesce(r.superseded_by, (
        SELECT n.id FROM runs n
        WHERE r.finished_at IS NULL AND n.supersede_group = r.supersede_group
          AND n.finished_at IS NULL AND n.superseded_by IS NULL
          AND n.seq > r.seq AND n.change_key <> r.change_key
        ORDER BY n.seq DESC LIMIT 1));
$$;

CREATE FUNCTION fermata_doc(r runs) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'id', r.id, 'thread_id', r.thread_id, 'change_key', r.change_key, 'goal', r.goal,
        'title', r.title, 'repo', r.repo, 'number', r.number, 'sha', r.sha, 'author', r.author,
        'state', r.state, 'reason', r.reason, 'targets', r.targets, 'event_id', r.event_id,
        'plan', r.plan, 'plan_digest', r.plan_digest, 'step_id', r.step_id, 'due_at', r.due_at,
        'created_at', r.created_at, 'updated_at', r.updated_at, 'finished_at', r.finished_at,
        'superseded_by', fermata_superseded_by(r));
$$;

CREATE FUNCTION fermata_doc(e events) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'id', e.id, 'source', e.source, 'delivery_id', e.delivery_id, 'body_digest', e.body_digest,
        'received_at', e.received_at, 'body', e.body);
$$;

CREATE FUNCTION fermata_doc(s signals) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'run_id', s.run_id, 'seq', s.seq, 'kind', s.kind, 'payload', s.payload,
        'event_id', s.event_id, 'at', s.at);
$$;

CREATE FUNCTION fermata_doc(a approvals) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'id', a.id, 'run_id', a.run_id, 'step_id', a.step_id, 'scope', a.scope, 'digest', a.digest,
        'policy_digest', a.policy_digest, 'environment', a.environment, 'risk', a.risk,
        'question', a.question, 'author', a.author, 'requirement', a.requirement,
        'requested_at', a.requested_at, 'expires_at', a.expires_at, 'state', a.state,
        'votes', coalesce((
            SELECT json_agg(json_build_object(
                'principal', v.principal, 'roles', v.roles, 'decision', v.decision,
                'comment', v.comment, 'via', v.via, 'at', v.at) ORDER BY v.id)
            FROM votes v WHERE v.approval_id = a.id AND v.refused IS NULL), '[]'));
$$;

CREATE FUNCTION fermata_doc(d decisions) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'id', d.id, 'run_id', d.run_id, 'seq', d.seq, 'step_id', d.step_id,
        'action_kind', d.action_kind, 'action_digest', d.action_digest, 'scope', d.scope,
        'scope_digest', d.scope_digest, 'decision', d.decision, 'facts', d.facts,
        'approval_id', d.approval_id, 'at', d.at);
$$;

CREATE FUNCTION fermata_doc(f effects) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'id', f.id, 'run_id', f.run_id, 'step_id', f.step_id, 'action_kind', f.action_kind,
        'digest', f.digest, 'scope_digest', f.scope_digest, 'decision_id', f.decision_id,
        'approval_id', f.approval_id, 'state', f.state, 'action', f.action, 'result', f.result,
        'error', f.error, 'tries', f.tries, 'started_at', f.started_at,
        'finished_at', f.finished_at);
$$;

CREATE FUNCTION fermata_doc(v verdicts) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'run_id', v.run_id, 'seq', v.seq, 'step_id', v.step_id, 'phase', v.phase,
        'verdict', v.verdict, 'at', v.at);
$$;

CREATE FUNCTION fermata_doc(o overrides) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'id', o.id, 'run_id', o.run_id, 'change_key', o.change_key, 'principal', o.principal,
        'roles', o.roles, 'reason', o.reason, 'at', o.at, 'expires_at', o.expires_at);
$$;

CREATE FUNCTION fermata_doc(l releases) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'service', l.service, 'environment', l.environment, 'image', l.image, 'sha', l.sha,
        'run_id', l.run_id, 'status', l.status, 'reason', l.reason, 'at', l.at);
$$;

CREATE FUNCTION fermata_doc(c ci_facts) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'name', c.name, 'source', c.source, 'conclusion', c.conclusion, 'url', c.url);
$$;
