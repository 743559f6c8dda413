"""Domains: how decisions compose into a search space."""
