"""New trials of a running study, sampled one after the other while others are recorded."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

from orchestrator.ledger import Effect, Lease, Ledger, Request, StudyRow
from orchestrator.sampling.candidates import UserSpaceError
from orchestrator.sampling.proposals import Proposal
from orchestrator.seeds import derive_seed
from orchestrator.study.parts import StudyParts
from orchestrator.study.requests.enqueue import enqueued, read_designs, refused_at_end
from orchestrator.study.requests.view import refusal
from orchestrator.trial import REQUEST
from search_spaces.designs import DesignError


class NewTrials:
    """Samples the next trials of one study and records them; safe to use from several threads."""

    def __init__(
        self,
        ledger: Ledger,
        lease: Lease,
        *,
        parts: Callable[[], StudyParts],
        guarded: Callable[[], AbstractContextManager[None]],
        inactive: Callable[[], bool],
    ) -> None:
        """Start without a proposal.

        Args:
            ledger: Ledger that trials are recorded in.
            lease: Lease on the study.
            parts: Returns the study's parts, which a change of the study replaces.
            guarded: Holds the study's lock.
            inactive: Returns True if nothing new is to start.
        """
        self._ledger, self._lease = ledger, lease
        self._parts, self._guarded, self._inactive = parts, guarded, inactive
        self._sampling_lock = threading.Lock()  # taken before the study's lock, never after it
        self._blocked = False

    def unblock(self) -> None:
        """Sample again: a trial has ended, or the study has changed."""
        self._blocked = False

    def add_ahead(self) -> None:
        """Sample and record a trial, unless another may start or none may be sampled."""
        while self._may_add_ahead and self.add_next():
            pass

    @property
    def _may_add_ahead(self) -> bool:
        with self._guarded():
            agenda = self._parts().agenda
            return agenda.next_waiting is None and agenda.may_sample
        return False

    def add_next(self) -> bool:
        """Sample and record the next trial without blocking others; False if there is none."""
        with self._sampling_lock:
            with self._guarded():
                parts = self._parts()
                if parts.agenda.next_waiting is not None:
                    return not self._inactive()
                if self._inactive() or self._blocked:
                    return False
                if not parts.agenda.may_sample:
                    return parts.agenda.add_confirmation()
                number = len(parts.state.index)
                propose = parts.state.prepare_proposal()
            try:
                proposal = propose()
            except UserSpaceError as error:
                parts.limits.abort(str(error))
                return False
            with self._guarded():
                # A change of the study replaces its sampler.
                unchanged = parts is self._parts()
                return self._add(parts, number, proposal) if unchanged else not self._inactive()
        return False

    def add_designs(
        self, request: Request, row: Callable[[], StudyRow], follow: Callable[[Effect], None]
    ) -> None:
        """Complete the designs of a request, and record the trials with the answer.

        It stays open while nothing may start, before the study's own first trial, and where the
        study changes meanwhile.

        Args:
            request: The request.
            row: Returns the study's row.
            follow: Does what a recorded effect means for the driver.
        """
        with self._sampling_lock:
            with self._guarded():
                parts = self._parts()
                number = len(parts.state.index)
                if (refused := refused_at_end(parts.limits.search_end)) is not None:
                    return self._answer(request, refused, follow)
                if self._inactive() or not (number and parts.agenda.takes_designs):
                    return None
                designs, marks = read_designs(request.payload), {REQUEST: request.id}
                complete = parts.state.prepare_designs(designs, marks)
            try:
                trials = complete()
            except (DesignError, UserSpaceError) as error:
                trials, refused = [], refusal(str(error))
            with self._guarded():
                changed = parts is not self._parts() or number != len(parts.state.index)
                if not (changed or self._inactive()):
                    self._answer(request, refused or enqueued(row(), trials), follow)
        return None

    def _answer(self, request: Request, effect: Effect, follow: Callable[[Effect], None]) -> None:
        if self._ledger.carry_out(self._lease, request.id, effect):
            follow(effect)

    def _add(self, parts: StudyParts, number: int, proposal: Proposal) -> bool:
        """Record a proposal as a trial, unless the study has changed too much meanwhile."""
        state = parts.state
        if self._inactive() or number != len(state.index):  # a retry may have taken the number
            state.discard(proposal)
            return not self._inactive()
        if proposal.duplicate_of is not None:
            original = state.index[proposal.duplicate_of.uid]  # it may have ended since
            if not (original.state.is_terminal or original.paused):
                self._blocked = True  # a duplicate has no result before its original has one
                return False
            proposal = replace(proposal, duplicate_of=original)
        seed = derive_seed(state.config.seed, number)
        trial = self._ledger.add_trial(self._lease, proposal.new_trial(number, seed=seed))
        state.add(trial, proposal)
        return True
