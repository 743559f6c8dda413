"""What may be tried: spaces of networks, recipes and loss weightings, as values."""
