"""Trials of earlier versions of a space, for the samplers of the present one.

The record of such a trial never changes. Where the present space contains its candidate, samplers
are given its parameters and distributions there, so that they learn from it as from a new one.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import cached_property

from orchestrator.sampling.candidates import Space
from orchestrator.sampling.space_versions.distributions import to_json, to_question
from orchestrator.trial import OPERATOR, Trial, TrialState
from search_spaces.candidate import candidate_from_dict
from search_spaces.derivation import decision_questions
from search_spaces.domains.suggester import Question, RandomSuggester, is_answer


class EarlierTrials:
    """Trials of a study in terms of its present space and maximum budget."""

    def __init__(self, space: Space, maximum: int) -> None:
        self._space, self._maximum = space, maximum

    def select(self, trials: Iterable[Trial]) -> list[Trial]:
        """Return the trials of earlier versions."""
        return [trial for trial in trials if trial.space_version != self._space.version]

    def translate(self, trial: Trial) -> Trial:
        """Return a trial with parameters and distributions of the present space.

        One that is complete at a lower maximum counts as one that was stopped there.

        A trial that this space does not contain is marked as outside. It keeps its parameters, and
        its distributions where the present one does not contain the value.
        """
        complete = trial.state is TrialState.COMPLETE
        if complete and 0 < trial.reached < self._maximum:
            trial = replace(trial, state=TrialState.PRUNED, reason=OPERATOR, values=None)
        if trial.space_version == self._space.version or not trial.candidate:
            return trial
        try:
            params = self._space.locate(candidate_from_dict(trial.candidate), trial.params)
            asking = RandomSuggester(0, params)
            self._space.resolve(asking)
        except Exception:  # noqa: BLE001 - a user's space may raise anything
            return replace(trial, outside=True, distributions=self._shared_distributions(trial))
        distributions = {name: to_json(question) for name, question in asking.questions.items()}
        return replace(trial, params=params, distributions=distributions)

    @cached_property
    def _questions(self) -> Mapping[str, Collection[Question]]:
        return decision_questions(self._space)

    def _shared_distributions(self, trial: Trial) -> dict[str, str]:
        shared = dict(trial.distributions)
        for name, value in trial.params.items():
            asked = [q for q in self._questions.get(name, ()) if is_answer(q, value)]
            if len(asked) == 1 and isinstance(asked[0], type(to_question(shared[name]))):
                shared[name] = to_json(asked[0])
        return shared
