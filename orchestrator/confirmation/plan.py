"""Size of a confirmation, and its marks on trials."""

from dataclasses import dataclass

from search_spaces.errors import ArchscoutError, ExitCode

KIND = "confirm"
"""Kind of the trials of a confirmation, and of the request for one."""
SEED_INDEX, MAX_SEEDS_KEY, IS_DEFAULT = "confirm_seed", "confirm_seeds", "confirm_default"
"""Keys of a confirmation trial's `sampler_attrs`: the index of its seed, the maximum number of
seeds, and whether its parent is the default candidate."""
MAX_TOP = 10
"""Largest number of candidates: so many trials keep their checkpoints."""
MIN_SEEDS, MAX_SEEDS = 3, 100


class ConfirmationPlanError(ArchscoutError, ValueError):
    """A confirmation of too few or too many trainings."""

    exit_code = ExitCode.INPUT


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationPlan:
    """Size of a confirmation."""

    top: int = 3
    """Number of candidates besides the default."""
    seeds: int = 10
    """Maximum number of seeds of each: 10 find a true gain of two standard deviations of one
    training in 9 of 10 cases, 5 in half of them."""

    def __post_init__(self) -> None:
        """Refuse sizes that confirm nothing."""
        for name, low, high in (("top", 1, MAX_TOP), ("seeds", MIN_SEEDS, MAX_SEEDS)):
            if not low <= getattr(self, name) <= high:
                raise ConfirmationPlanError(f"{name} must be between {low} and {high}")

    @property
    def max_trainings(self) -> int:
        """Largest number of trainings."""
        return (self.top + 1) * self.seeds
