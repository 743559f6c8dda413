"""Other search methods, and the event loop in which they run."""
