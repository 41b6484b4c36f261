"""A useful part of PromQL. Law: `parse` turns text into frozen nodes, `evaluate` turns nodes and
samples into values; neither knows about HTTP, traffic or the clock.
"""
