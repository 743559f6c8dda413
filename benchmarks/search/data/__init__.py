"""Data sets of the recordings and of the real searches."""
