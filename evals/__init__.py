"""Replay, scoring and the simulated world. Nothing here is imported by the packages that decide."""
