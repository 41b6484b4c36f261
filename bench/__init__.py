"""Benchmarks: each figure is paired, in one run, with the plain tools that Fermata stands on.

May import everything else; nothing imports it. A benchmark is not a test: a missed target is said,
and changes no exit code.
"""
