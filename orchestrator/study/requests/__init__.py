"""Requests to a study: what each kind changes in it."""
