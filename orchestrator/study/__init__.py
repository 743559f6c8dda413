"""The driver of one study: its attempts, outcomes, limits and state."""
