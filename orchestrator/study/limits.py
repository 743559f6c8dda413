"""Search limits: elapsed time of a study, and the reasons why it stops or is aborted."""

from collections.abc import Callable, Sequence

from orchestrator.clock import Clock
from orchestrator.config.schema import StudyConfig
from orchestrator.objective import best, reaches_target
from orchestrator.trial import Trial, TrialState

LIMITS = frozenset({"hours", "target"})
"""Reasons to stop that end the search; after others it may be resumed."""

_FIRST = 5
"""Trials at the start of a driver that are checked for equal failures."""
_ALIKE = 3
"""Equal failures among them that abort the search."""
_WINDOW = 20
"""Latest trials; the search is aborted if more than half of them failed."""


class SearchLimits:
    """Time limit and stop reason of one driver; the elapsed time adds up over all drivers.

    A search that is confirmed ends in two steps: first nothing new is searched, then, after its
    confirmation, nothing runs.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        spent_s: float,
        hours: float | None,
    ) -> None:
        """Start measuring.

        Args:
            clock: Source of times.
            spent_s: Seconds that earlier drivers used.
            hours: Limit for all drivers together; None for no limit.
        """
        self.clock = clock
        self._before_s = spent_s
        self._limit_s = None if hours is None else hours * 3600
        self._began = self._accounted = clock.monotonic()
        self._ended: float | None = None
        self._stop_reason: str | None = None
        self._search_end: str | None = None
        self.confirms = False
        """True if a confirmation follows the search."""
        self.is_open_ended = False
        """True if the limit of hours does not end the confirmation."""
        self.reserved_s: Callable[[], float] = lambda: 0.0
        """Returns the seconds to keep for the confirmation, of which a third of the limit is kept
        at most."""
        self.abort_reason: str | None = None
        """Error in the study for which the search was aborted; None otherwise."""
        self.block_reason: str | None = None
        """Obstacle outside the study, such as a full disk, for which it stopped; None otherwise."""

    @property
    def spent_s(self) -> float:
        """Search time in seconds, over all drivers."""
        return self._before_s + self._now - self._began

    @property
    def stop_reason(self) -> str | None:
        """Reason to stop, in one word; None while the search or its confirmation continues."""
        over = self._limit_s is not None and self.spent_s >= self._limit_s
        if self._stop_reason is None and over and not self.is_open_ended:
            self.stop("hours")
        return self._stop_reason

    @property
    def search_end(self) -> str | None:
        """Reason why nothing new is searched, in one word; None while the search continues."""
        if self._search_end is None and self._limit_s is not None:
            left_s = self._limit_s - self.spent_s
            if left_s <= 0 or (left_s <= self._limit_s / 3 and left_s <= self.reserved_s()):
                self._search_end = "hours"
        return self._search_end or self.stop_reason

    def end_search(self, reason: str) -> None:
        """Search nothing new from now on, and stop if no confirmation follows."""
        self._search_end = self._search_end or reason
        if not self.confirms:
            self.stop(reason)

    def freeze(self) -> None:
        """Stop measuring: what follows is not part of the search, and has no time limit."""
        self._ended = self._now

    def stop(self, reason: str) -> None:
        """Start nothing new from now on; the first reason is kept."""
        self._stop_reason = self._stop_reason or reason

    def stay_stopped(self, before: "SearchLimits") -> None:
        """Stop as the limits that these replace, unless by a limit, which may have changed."""
        if before.stop_reason not in LIMITS:
            self._stop_reason = before.stop_reason
            self.abort_reason, self.block_reason = before.abort_reason, before.block_reason

    def abort(self, reason: str) -> None:
        """Stop because the study cannot succeed without a change."""
        self.abort_reason = reason
        self.stop("broken")

    def block(self, obstacle: str) -> None:
        """Stop because of an obstacle that the user must remove."""
        self.block_reason = self.block_reason or obstacle
        self.stop("blocked")

    @property
    def unaccounted_s(self) -> float:
        """Seconds that are not recorded yet."""
        return self._now - self._accounted

    def account(self, seconds: float) -> None:
        """Mark seconds as recorded."""
        self._accounted += seconds

    @property
    def _now(self) -> float:
        return self.clock.monotonic() if self._ended is None else self._ended


def abort_reason(ended: Sequence[Trial]) -> str | None:
    """Return the reason to abort the search after too many failures; None otherwise.

    Args:
        ended: Attempted trials that ended since this driver started, in order. Earlier ones do not
            count, because an aborted study is resumed after a change.
    """
    failed = [trial for trial in ended if trial.state is TrialState.FAIL]
    if len(failed) == len(ended) <= _FIRST:
        alike = [trial for trial in failed if _digest(trial) == _digest(failed[-1])]
        if len(alike) >= _ALIKE:
            return (
                f"the first {len(ended)} trials failed, {len(alike)} alike: {_message(alike[-1])}"
            )
    recent = sum(trial.state is TrialState.FAIL for trial in ended[-_WINDOW:])
    if recent > _WINDOW // 2:
        return (
            f"{recent} of the last {min(len(ended), _WINDOW)} trials failed, "
            f"the last one with: {_message(failed[-1])}"
        )
    return None


def all_failed(trials: Sequence[Trial]) -> str | None:
    """Return a message if trials were attempted and all of them failed; None otherwise."""
    attempted = [trial for trial in trials if trial.attempts]
    if not attempted or any(trial.state is not TrialState.FAIL for trial in attempted):
        return None
    return f"every one of {len(attempted)} trials failed, the last with: {_message(attempted[-1])}"


def final_stop_reason(config: StudyConfig, spent_s: float, trials: Sequence[Trial]) -> str | None:
    """Return the reason why not even a retry would start; None if one would."""
    if time_is_up(config, spent_s):
        return f"its time limit of {config.stop.hours:g} h is reached"
    return "its target is reached" if target_is_reached(config, trials) else None


def exhausted_reason(config: StudyConfig, spent_s: float, trials: Sequence[Trial]) -> str | None:
    """Return the reason why no trial would start if the study were resumed; None if one would."""
    if reason := final_stop_reason(config, spent_s, trials):
        return reason
    if any(trial.state in {TrialState.WAITING, TrialState.RUNNING} for trial in trials):
        return None
    ended = trials_have_ended(config, trials)
    return f"its {config.stop.trials} trials have ended" if ended else None


def trials_have_ended(config: StudyConfig, trials: Sequence[Trial]) -> bool:
    """Return whether the limit of trials is reached, as far as they have started."""
    counted = sum(trial.kind == "search" and trial.attempts > 0 for trial in trials)
    return config.stop.trials is not None and counted >= config.stop.trials


def time_is_up(config: StudyConfig, spent_s: float) -> bool:
    """Return whether the limit of hours is reached."""
    return config.stop.hours is not None and spent_s >= config.stop.hours * 3600


def target_is_reached(config: StudyConfig, trials: Sequence[Trial]) -> bool:
    """Return whether the best trial reaches the target."""
    objectives = config.objectives
    winner = best(trials, objectives)
    return winner is not None and reaches_target(winner, objectives[0], config.stop.target)


def _digest(trial: Trial) -> object:
    return (trial.failure or {}).get("digest")


def _message(trial: Trial) -> str:
    failure = trial.failure or {}
    return f"{failure.get('kind')}: {failure.get('message')}"
