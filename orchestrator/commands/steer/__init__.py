"""Commands that request something of a study: from its driver, or under a short lease."""
