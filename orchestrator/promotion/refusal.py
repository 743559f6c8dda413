"""Why a model does not reach its alias, or is not loaded."""


class PromotionRefusedError(Exception):
    """A gate did not open; the alias stays where it was. The message says why and the way out."""
