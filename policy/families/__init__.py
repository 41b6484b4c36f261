"""Rule families: one module each, one question each, all with the same shape.

A family looks at a case and yields what it has to say, in sentences; it never decides alone.
`policy/evaluate.py` lists the families and weighs what they say. Pure, like the rest of policy.
"""
