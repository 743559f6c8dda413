"""Agenda of a study: what may start next, in its search and in the confirmation after it.

Not thread-safe: the study's lock guards it.
"""

from orchestrator.confirmation.plan import KIND
from orchestrator.study.attempts import Attempts
from orchestrator.study.confirming import Confirmer
from orchestrator.study.limits import LIMITS, SearchLimits
from orchestrator.study.state import StudyState
from orchestrator.trial import Trial


class Agenda:
    """What one study starts next; a function of its trials and its limits."""

    def __init__(
        self,
        state: StudyState,
        attempts: Attempts,
        limits: SearchLimits,
        confirmer: Confirmer,
        *,
        confirm_only: bool,
    ) -> None:
        """Begin with the search, unless its end is reached already.

        Args:
            state: State of the study.
            attempts: Its running attempts.
            limits: Its limits, which keep time for the confirmation.
            confirmer: Its confirmation.
            confirm_only: Search no further.
        """
        self._state, self._attempts, self._limits = state, attempts, limits
        self._confirmer, self._confirm_only = confirmer, confirm_only
        limits.reserved_s = lambda: confirmer.reserved_s(state.index.trials, attempts.peak)
        self._tell_limits()
        if state.target_reached:
            limits.end_search("target")

    @property
    def is_empty(self) -> bool:
        """True if nothing may start, once nothing runs."""
        if not self._search_over:
            return False
        return not (self._confirms and self._next_confirmation)

    @property
    def search_finished(self) -> bool:
        """True if the search is at its end, whether it was confirmed or not."""
        if self._limits.search_end is not None:
            return True
        return self._state.next_search is None and not self._may_search

    @property
    def may_sample(self) -> bool:
        """True if another trial may be sampled."""
        return not self._search_closed and self._may_search

    @property
    def takes_designs(self) -> bool:
        """True if a design that a user gives may be trained, or is refused for a limit."""
        return not self._confirm_only and self._limits.abort_reason is None

    @property
    def next_waiting(self) -> Trial | None:
        """The waiting trial to start next."""
        if self._search_closed:
            return self._state.index.next_confirmation
        return self._state.next_waiting

    def read_requests(self) -> None:
        """Take requests for a confirmation into account."""
        self._confirmer.read_requests()
        self._tell_limits()

    def advance(self) -> None:
        """End paused trials that wait no longer; after the search, begin or end its confirmation.

        Paused trials end if better ones wait at the same fidelity, and all with the search.
        """
        at_limit = self._limits.stop_reason in {None, *LIMITS}
        ends = at_limit and not self._confirm_only and self._search_over
        self._attempts.end_paused(self._state.index.paused if ends else self._state.surplus)
        if not (at_limit and self._confirms and self._search_over):
            return
        if self._confirmer.requested:
            self._limits.freeze()
        self._confirmer.settle(self._state.index)

    def add_confirmation(self) -> bool:
        """Record the next confirmation; False if there is none, or a look awaits results."""
        if not (self._confirms and self._search_over):
            return False
        new = self._confirmer.add_next(self._state.index)
        if new is None:
            return False
        self._state.add_confirmation(new)
        return True

    def _tell_limits(self) -> None:
        """Let the hours limit a confirmation of the config alone, not one requested by the user."""
        self._limits.confirms = self._confirms
        self._limits.is_open_ended = self._confirmer.requested

    @property
    def _may_search(self) -> bool:
        """True if the search is within its limits and its space is not exhausted."""
        if reason := self._state.rejections.abort_reason:
            self._limits.abort(reason)
        return self._limits.abort_reason is None and self._state.may_sample

    @property
    def _search_closed(self) -> bool:
        """True if no search trial may start."""
        return self._confirm_only or self._limits.search_end is not None

    @property
    def _search_over(self) -> bool:
        """True if no search trial runs or may start."""
        if any(self._state.index[uid].kind != KIND for uid in self._attempts.running):
            return False
        if self._search_closed:
            return True
        return self._state.next_search is None and not self._may_search

    @property
    def _confirms(self) -> bool:
        return self._confirmer.plan is not None and self._limits.abort_reason is None

    @property
    def _next_confirmation(self) -> bool:
        """True if a confirmation may start or be added."""
        index = self._state.index
        return index.next_confirmation is not None or self._confirmer.has_next(index)
