"""The `fermata` commands: one module a group, each with a Typer `app` that `cli.py` mounts.

A command reads its arguments, asks the server or a package of the house, and prints. It decides
nothing. Exit codes: 0 done, 1 a check failed or was refused, 2 bad usage or bad input.
"""
