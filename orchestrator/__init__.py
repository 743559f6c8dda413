"""Which candidate next, where it runs, and what was seen."""
