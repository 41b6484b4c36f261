"""Proof: whether an audit dump is whole, and whether the five laws held in what it records.

Pure, and without a database: whoever is handed a dump can check it. What is judged here is judged
by the same functions as it was when it happened.
"""
