"""Adapters to the outside world, one a file, behind the ports of `tools/ports.py`.

An adapter turns a typed action into calls of one real system, and one real system's answers into
domain types. It decides nothing, knows no policy and no run, and raises only `Temporary`,
`Permanent` or `OutcomeUnknown`. Adapters do not import one another.
"""
