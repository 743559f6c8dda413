"""Searches, evaluations and measurements by real training."""
