"""Search benchmark in simulated time: recorded learning curves, our search and its peers."""
