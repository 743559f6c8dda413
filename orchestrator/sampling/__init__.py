"""Which candidate comes next: Optuna's samplers, screening, pruning and warm starts."""
