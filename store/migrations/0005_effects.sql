-- Claiming an effect. SQLSTATE FM002 means that no decision (or approval) covers it.

CREATE FUNCTION fermata_claim(
    p_id uuid, p_run uuid, p_fence integer, p_step text, p_kind text, p_digest text,
    p_scope_digest text, p_decision uuid, p_approval uuid, p_action jsonb, p_now timestamptz
) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    v_decision record;
    v_approval record;
    v_effect record;
BEGIN
    PERFORM fermata_hold(p_run, p_fence);
    SELECT run_id, step_id, outcome, action_digest, scope_digest, approval_id INTO v_decision
    FROM decisions WHERE id = p_decision;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no decision %', p_decision USING ERRCODE = 'FM002';
    ELSIF v_decision.run_id <> p_run OR v_decision.step_id <> p_step THEN
        RAISE EXCEPTION 'decision % is about another run or step', p_decision
            USING ERRCODE = 'FM002';
    ELSIF v_decision.outcome <> 'allow' THEN
        RAISE EXCEPTION 'decision % does not allow: %', p_decision, v_decision.outcome
            USING ERRCODE = 'FM002';
    ELSIF v_decision.action_digest <> p_digest OR v_decision.scope_digest <> p_scope_digest THEN
        RAISE EXCEPTION 'decision % allows something else than what is to be done', p_decision
            USING ERRCODE = 'FM002';
    ELSIF v_decision.approval_id IS DISTINCT FROM p_approval THEN
        RAISE EXCEPTION 'decision % rests on another approval', p_decision
            USING ERRCODE = 'FM002';
    END IF;
    IF p_approval IS NOT NULL THEN
        SELECT run_id, digest, state INTO v_approval
        FROM approvals WHERE id = p_approval FOR NO KEY UPDATE;
        IF v_approval.run_id <> p_run OR v_approval.digest <> p_scope_digest
           OR v_approval.state NOT IN ('approved', 'spent') THEN
            RAISE EXCEPTION 'approval % does not cover this (it is %)', p_approval,
                v_approval.state USING ERRCODE = 'FM002';
        ELSIF v_approval.state = 'approved' THEN
            UPDATE approvals SET state = 'spent', settled_at = clock_timestamp()
            WHERE id = p_approval;
        END IF;
    END IF;
    INSERT INTO effects (id, run_id, step_id, action_kind, digest, scope_digest, decision_id,
                         approval_id, state, action, started_at)
    VALUES (p_id, p_run, p_step, p_kind, p_digest, p_scope_digest, p_decision, p_approval,
            'started', p_action, p_now)
    ON CONFLICT (run_id, step_id, digest) DO NOTHING;
    IF FOUND THEN
        RETURN json_build_object('effect_id', p_id, 'status', 'fresh', 'tries', 1);
    END IF;
    SELECT id, state, result, tries INTO v_effect FROM effects
    WHERE run_id = p_run AND step_id = p_step AND digest = p_digest FOR NO KEY UPDATE;
    IF v_effect.state = 'applied' THEN
        RETURN json_build_object('effect_id', v_effect.id, 'status', 'applied',
                                 'result', v_effect.result, 'tries', v_effect.tries);
    END IF;
    UPDATE effects
    SET state = CASE WHEN state = 'refused' THEN 'started' ELSE state END,
        decision_id = p_decision, approval_id = p_approval, tries = tries + 1,
        finished_at = NULL
    WHERE id = v_effect.id;
    RETURN json_build_object(
        'effect_id', v_effect.id, 'tries', v_effect.tries + 1,
        'status', CASE WHEN v_effect.state = 'refused' THEN 'retry' ELSE 'unknown' END);
END $$;
