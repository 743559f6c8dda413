"""Recorded trainings of our own spaces, and tables made of them."""
