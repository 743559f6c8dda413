"""Classes of earlier trials: what becomes of them when their study changes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from orchestrator.config.schema import StudyConfig
from orchestrator.confirmation.plan import KIND
from orchestrator.objective import is_feasible, violations_of
from orchestrator.sampling.candidates import Space
from orchestrator.sampling.space_versions.earlier_trials import EarlierTrials
from orchestrator.trial import Trial, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialClasses:
    """Numbers of a study's trials by what becomes of them."""

    valid: tuple[int, ...] = ()
    """Trials that the change leaves as they are."""
    outside: tuple[int, ...] = ()
    """Trials that the new space does not contain: kept, and not proposed again; those that have
    not started end."""
    infeasible: tuple[int, ...] = ()
    """Trials that the new constraints exclude; open ones end."""
    to_continue: tuple[int, ...] = ()
    """Complete trials below the new maximum: continued by the promotion rule."""

    def ends(self, trial: Trial) -> bool:
        """Return whether an open trial ends: an infeasible one, or one outside before its start."""
        unstarted = trial.number in self.outside and not trial.attempts
        return not trial.state.is_terminal and (trial.number in self.infeasible or unstarted)

    def to_dict(self) -> dict[str, list[int]]:
        """Return the numbers by class."""
        return {name: list(numbers) for name, numbers in asdict(self).items()}


def classify(trials: Sequence[Trial], space: Space, config: StudyConfig) -> TrialClasses:
    """Return the classes of the trials without duplicates and confirmations.

    Args:
        trials: All trials of the study.
        space: The space after the change.
        config: The config after the change.
    """
    earlier = EarlierTrials(space, config.budget.maximum)
    found: dict[str, list[int]] = {}
    for trial in trials:
        if trial.kind != KIND and trial.reason != "duplicate":
            found.setdefault(_class(trial, earlier, space, config), []).append(trial.number)
    return TrialClasses(**{name: tuple(numbers) for name, numbers in found.items()})


def _newly_infeasible(trial: Trial, space: Space, config: StudyConfig) -> bool:
    """Return whether only the new constraints exclude a trial."""
    constraints = (*config.constraints, *space.constraints)
    excess = violations_of(trial.cost, constraints)
    return is_feasible(trial) and any(violation > 0 for violation in excess.values())


def _class(trial: Trial, earlier: EarlierTrials, space: Space, config: StudyConfig) -> str:
    if earlier.translate(trial).outside:
        return "outside"
    if _newly_infeasible(trial, space, config):
        return "infeasible"
    complete = trial.state is TrialState.COMPLETE and bool(trial.measurements)
    return "to_continue" if complete and trial.reached < config.budget.maximum else "valid"
