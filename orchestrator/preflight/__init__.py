"""Preflight: check before a search that its space, constraints and time go together.

Reads spaces, data and this machine's speed; it writes nothing and uses neither ledger nor engine.
"""
