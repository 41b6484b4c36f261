"""Policy: a file a person wrote becomes frozen rules; rules, facts and a time become a decision.

Pure: no input or output, no clock, no environment. Failing to decide denies.
"""
