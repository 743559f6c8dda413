"""Versions of a study's space: what a change means for its samplers."""
