"""Where training data comes from, one source a file."""
