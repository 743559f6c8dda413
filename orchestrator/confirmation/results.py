"""Results of a study's confirmation, read from its trials alone.

A confirmation trial (kind `confirm`) trains the candidate of its parent with another seed. All
contestants share their seeds, so that results are compared in pairs. What a search measured itself
never enters a comparison: its best value was selected, and is optimistic.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.confirmation.plan import IS_DEFAULT, KIND, MAX_SEEDS_KEY, SEED_INDEX
from orchestrator.confirmation.racing import Race, Scores, race
from orchestrator.objective import (
    Objective,
    main_objective,
    pareto_front,
    preference_distances,
    rank,
)
from orchestrator.trial import Trial, TrialState, newest_continuations

WITHOUT_DEFAULT_SEEDS = 5
"""Seeds of each candidate where there is no default to compare with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A trial that is confirmed, with the results of its confirmations."""

    trial: Trial
    is_default: bool
    scores: Scores
    """Scores by index of the seed, more being better."""
    known: frozenset[int]
    """Indices of the seeds that have a trial, also without a result."""
    failure: str | None
    """Reason of the first confirmation that failed; None if none did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """Contestants of a confirmation and the state of their race."""

    objective: Objective
    default: Contestant | None
    """The default candidate; None without one that can be compared with."""
    default_failure: str | None
    """Reason why a confirmation of the default failed; None if none did."""
    candidates: tuple[Contestant, ...]
    max_seeds: int

    @property
    def race(self) -> Race:
        """Race of the candidates against the default; without a default, none is a winner."""
        candidates = {each.trial.uid: each.scores for each in self.candidates}
        failed = [each.trial.uid for each in self.candidates if each.failure]
        if self.default is not None:
            return race(self.default.scores, candidates, max_seeds=self.max_seeds, failed=failed)
        needed = min(self.max_seeds, WITHOUT_DEFAULT_SEEDS)
        racing = tuple(
            uid
            for uid, scores in candidates.items()
            if uid not in failed and not all(index in scores for index in range(needed))
        )
        return Race(racing=racing, next_look=needed)

    def missing(self) -> tuple[Contestant, int] | None:
        """Return the contestant and the seed to train next; None if all needed have a trial."""
        now = self.race
        racing = [each for each in self.candidates if each.trial.uid in now.racing]
        contestants = [*([self.default] if self.default and racing else []), *racing]
        for index in range(now.next_look):
            for contestant in contestants:
                if index not in contestant.known:
                    return contestant, index
        return None


def read_confirmation(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    *,
    selected: Iterable[Trial] = (),
    default: Trial | None = None,
    max_seeds: int = 0,
) -> Confirmation | None:
    """Return the confirmation that a study's trials show; None without a candidate.

    Args:
        trials: All trials of the study.
        objectives: The study's objectives.
        selected: Candidates that are to be confirmed besides those that have been.
        default: The default candidate's trial; None leaves it to the confirmation trials.
        max_seeds: Maximum number of seeds; at least that of the confirmation trials.
    """
    known = {trial.uid: trial for trial in trials}
    runs: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.kind == KIND and trial.parent in known:
            runs.setdefault(trial.parent, []).append(trial)
            max_seeds = max(max_seeds, int(trial.sampler_attrs[MAX_SEEDS_KEY]))
            if trial.sampler_attrs[IS_DEFAULT]:
                default = known[trial.parent]
    parents = {*runs, *(trial.uid for trial in selected)} - {default.uid if default else ""}
    if not parents:
        return None
    own = () if default is None else runs.get(default.uid, ())
    compared = None if default is None else _contestant(default, own, objectives, True)
    return Confirmation(
        objective=main_objective(objectives),
        default=None if compared is None or compared.failure else compared,
        default_failure=None if compared is None else compared.failure,
        candidates=tuple(
            _contestant(known[uid], runs.get(uid, ()), objectives, False)
            for uid in sorted(parents, key=lambda uid: known[uid].number)
        ),
        max_seeds=max_seeds,
    )


def has_default(trials: Sequence[Trial]) -> bool:
    """Return whether trial 0 is the default of its space: define-by-run spaces have none."""
    return bool(trials) and "decisions" not in trials[0].candidate


def default_trial(trials: Sequence[Trial]) -> Trial | None:
    """Return the complete trial of the candidate of trial 0, which may be a retry of it."""
    newest = newest_continuations(trials)
    complete = [t for t in newest if t.state is TrialState.COMPLETE and t.kind != KIND]
    return next((trial for trial in complete if trial.digest == trials[0].digest), None)


def select_candidates(
    trials: Sequence[Trial], objectives: Sequence[Objective], top: int, default: Trial | None
) -> tuple[Trial, ...]:
    """Return the best complete trials but the default.

    With several objectives: the best by the main one, then those of the Pareto front nearest to the
    best of all objectives, weighed equally.
    """
    judge = main_objective(objectives)
    others = [trial for trial in trials if default is None or trial.digest != default.digest]
    if len(objectives) < 2:
        return rank(others, objectives, judge).complete[:top]
    front = pareto_front(others, objectives)
    weights = {objective.metric: 1 / len(objectives) for objective in objectives}
    far = preference_distances([trial.values or () for trial in front], objectives, weights)
    order = dict(zip((trial.uid for trial in front), far, strict=True))
    nearest = sorted(front, key=lambda trial: order[trial.uid])
    first = max(front, key=lambda trial: _score(trial, objectives) or 0.0, default=None)
    chosen = dict.fromkeys(trial.uid for trial in ([first] if first else []) + nearest)
    known = {trial.uid: trial for trial in front}
    return tuple(known[uid] for uid in list(chosen)[:top])


def _contestant(
    trial: Trial, runs: Iterable[Trial], objectives: Sequence[Objective], is_default: bool
) -> Contestant:
    runs = sorted(runs, key=lambda run: int(run.sampler_attrs[SEED_INDEX]))
    scores: dict[int, float] = {}
    for run in runs:
        if (score := _score(run, objectives)) is not None:
            scores[int(run.sampler_attrs[SEED_INDEX])] = score
    lost = [r for r in runs if r.state in {TrialState.FAIL, TrialState.PRUNED}]
    return Contestant(
        trial=trial,
        is_default=is_default,
        scores=scores,
        known=frozenset(int(run.sampler_attrs[SEED_INDEX]) for run in runs),
        failure=str(lost[0].reason or "failed") if lost else None,
    )


def _score(trial: Trial, objectives: Sequence[Objective]) -> float | None:
    """Return a complete trial's score by the main objective."""
    objective = main_objective(objectives)
    if trial.state is not TrialState.COMPLETE:
        return None
    named: Mapping[str, float] = dict(
        zip((o.metric for o in objectives), trial.values or (), strict=True)
    )
    measured = {**(trial.measurements[-1].metrics if trial.measurements else {}), **named}
    value = measured.get(objective.metric)
    return None if value is None else objective.score(value)
