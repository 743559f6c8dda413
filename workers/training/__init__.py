"""Training of one candidate: data on the device, optimization, evaluation."""
