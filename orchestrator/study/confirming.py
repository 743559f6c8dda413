"""Confirmation trials: which one comes next, as a function of the ledger.

The best trials and the default are trained with further seeds, the same for all of them. A config
with `confirm` has its search confirmed; a request of the same kind has any study confirmed.
"""

from collections.abc import Mapping, Sequence

from orchestrator.config.schema import StudyConfig
from orchestrator.confirmation.plan import (
    IS_DEFAULT,
    KIND,
    MAX_SEEDS_KEY,
    SEED_INDEX,
    ConfirmationPlan,
)
from orchestrator.confirmation.results import (
    Confirmation,
    Contestant,
    default_trial,
    read_confirmation,
    select_candidates,
)
from orchestrator.ledger import Effect, Lease, Ledger, Request
from orchestrator.seeds import derive_seed
from orchestrator.study.trial_index import TrialIndex
from orchestrator.trial import Trial, TrialState


def plan_confirmation(
    trials: Sequence[Trial], config: StudyConfig, plan: ConfirmationPlan, *, has_default: bool
) -> Confirmation | None:
    """Return the confirmation of a study; None without a candidate.

    Args:
        trials: All trials of the study.
        config: The study's config.
        plan: Number of candidates and seeds.
        has_default: Whether trial 0 is the space's default candidate.
    """
    default = default_trial(trials) if has_default else None
    return read_confirmation(
        trials,
        config.objectives,
        selected=select_candidates(trials, config.objectives, plan.top, default),
        default=default,
        max_seeds=plan.seeds,
    )


class Confirmer:
    """Confirmation of one study by its driver."""

    def __init__(
        self, config: StudyConfig, ledger: Ledger, lease: Lease, has_default: bool
    ) -> None:
        """Read the open requests.

        Args:
            config: The study's config.
            ledger: The study's ledger.
            lease: Lease on the study.
            has_default: Whether trial 0 is the space's default candidate.
        """
        self._config, self._ledger, self._lease = config, ledger, lease
        self._has_default = has_default
        self._requests: tuple[Request, ...] = ()
        self._seen: tuple[object, Confirmation | None] = (None, None)
        self.read_requests()

    def read_requests(self) -> None:
        """Read the open requests for a confirmation."""
        found = self._ledger.requests(self._lease.study_id)
        self._requests = tuple(request for request in found if request.kind == KIND)

    @property
    def requested(self) -> bool:
        """True if a user has requested the confirmation."""
        return bool(self._requests)

    @property
    def plan(self) -> ConfirmationPlan | None:
        """Plan of the last open request, else of the config; None without any."""
        if not self._requests:
            return self._config.confirm.plan
        payload = self._requests[-1].payload
        return ConfirmationPlan(**payload)

    def has_next(self, index: TrialIndex) -> bool:
        """Return whether another trial is needed, besides those that have been recorded."""
        confirmation = self._confirmation(index)
        return confirmation is not None and confirmation.missing() is not None

    def add_next(self, index: TrialIndex) -> Trial | None:
        """Record the next trial; None if there is none, or a look awaits results."""
        confirmation = self._confirmation(index)
        missing = None if confirmation is None else confirmation.missing()
        if confirmation is None or missing is None:
            return None
        contestant, seed_index = missing
        new = self._trial(len(index), contestant, seed_index, confirmation.max_seeds)
        return self._ledger.add_trial(self._lease, new)

    def settle(self, index: TrialIndex) -> None:
        """Answer the open requests once the confirmation is decided."""
        if not self._requests:
            return
        confirmation = self._confirmation(index)
        if confirmation is not None and not confirmation.race.decided:
            return
        for request in self._requests:
            self._ledger.carry_out(self._lease, request.id, Effect(answer={"decided": True}))
        self._requests = ()

    def reserved_s(self, trials: Sequence[Trial], slots: int) -> float:
        """Return the predicted seconds of the confirmation, from complete trials so far.

        Args:
            trials: All trials of the study.
            slots: Parallel trials.
        """
        plan = None if self._requests else self.plan
        if plan is None:
            return 0.0
        took = [
            trial.measurements[-1].elapsed_s
            for trial in trials
            if trial.state is TrialState.COMPLETE and trial.measurements
        ]
        mean_s = sum(took) / len(took) if took else float("inf")
        return plan.max_trainings * mean_s / slots

    def _confirmation(self, index: TrialIndex) -> Confirmation | None:
        if (plan := self.plan) is None:
            return None
        key = (index.version, plan)
        if self._seen[0] != key:
            found = plan_confirmation(
                index.trials, self._config, plan, has_default=self._has_default
            )
            self._seen = (key, found)
        return self._seen[1]

    def _trial(self, number: int, contestant: Contestant, seed_index: int, seeds: int) -> Trial:
        parent = self._ledger.trial(self._lease.study_id, contestant.trial.number)
        marks: Mapping[str, int | bool] = {
            SEED_INDEX: seed_index,
            MAX_SEEDS_KEY: seeds,
            IS_DEFAULT: contestant.is_default,
        }
        seed = derive_seed(self._config.seed, KIND, seed_index)
        return parent.successor(KIND, number=number, seed=seed, sampler_attrs=marks)
