"""Nodes: frozen callables that hold the ports they need and return a change of state.

Nodes do not import one another and never choose the next node. Only `execute` holds write ports;
`approve` and `wait` do nothing but interrupt.
"""
