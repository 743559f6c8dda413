"""The doctor: whether a study's space, limits and time go together, found out before it starts.

Knows spaces, data and this machine; it writes nothing, and knows no ledger and no engine.
"""
