"""Choice of the next candidate: Optuna's samplers, screening, pruning and warm starts."""
