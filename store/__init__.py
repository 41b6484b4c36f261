"""PostgreSQL, the source of truth: events, runs, decisions, approvals, effects, signals, locks.

SQL lives here and nowhere else. Whatever changes a run on behalf of a worker carries that
worker's lease and is refused in the same transaction when the fencing token is no longer current.
"""
