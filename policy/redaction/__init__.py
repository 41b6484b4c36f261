"""Redaction: finds secrets in text, bytes and values, and puts a fingerprint in their place.

Pure like the rest of `policy/`: rules, key and known secrets come in as values, nothing is read,
written or asked for. Offsets are offsets in bytes; the input may be anything.
"""
