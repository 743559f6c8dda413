"""Pruned trials of a study that is extended continue from where they were, as new trials."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.studies import WRITES, Dying, Killed, a_trial, config, curve, opened, run, story

from orchestrator.ledger import Ledger
from orchestrator.objective import best, rank
from orchestrator.study.continuing import MAX_CONTINUABLE, continuable_trials
from orchestrator.study.driver import StudyDriver
from orchestrator.study.leaderboard import counts, leaderboard
from orchestrator.study.requests.extend import EXTEND
from orchestrator.study.retention import Retention
from orchestrator.trial import CONTINUE, Trial, TrialState, newest_continuations
from workers.job import TrainingJob
from workers.measurement import CheckpointRef, Measurement
from workers.storage import LocalFolder

RANDOM = {"sampler": {"name": "random"}}
SMALL = config(stop={"trials": 9}, **RANDOM)
LARGE = config(stop={"trials": 27}, **RANDOM)


class Resuming:
    """A worker that continues after the last measurement, as one with checkpoints does."""

    def __init__(self, study: StudyDriver) -> None:
        self._study = study
        self.started: list[tuple[int, int]] = []

    def __call__(self, job: TrainingJob, dataset: Any) -> Iterator[Measurement]:
        trial = self._study._state.index[job.key.trial_uid]
        self.started.append((job.trial_number, trial.reached + 1))
        yield from (seen for seen in curve(job, dataset) if seen.fidelity > trial.reached)


def finished(folder: Path, **parts: Any) -> None:
    """Run the small study to its end."""
    with opened(folder, SMALL, **parts) as study:
        run(study, Resuming(study))
        study._ledger.set_study_state(study._lease, "finished")


def extended(folder: Path, **parts: Any) -> tuple[list[Any], tuple[Trial, ...]]:
    """Extend the small study, run it to its end, and return what it has come to."""
    with Ledger.open(folder / "ledger.db") as ledger:
        stored = ledger.study("small")
        assert stored is not None
        larger = '"trials":27' in stored.config_json
        if not (larger or ledger.requests(stored.id)):
            ledger.add_request(stored.id, EXTEND, {"trials": 18, "operation": "a"})
    with opened(folder, LARGE if larger else SMALL, **parts) as study:
        run(study, Resuming(study))
        assert study.finished
        with Ledger.open(folder / "ledger.db") as ledger:
            return story(study), tuple(ledger.trials(1))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], tuple[Trial, ...]]:
    folder = tmp_path_factory.mktemp("continued")
    finished(folder)
    return extended(folder)


def test_a_pruned_trial_continues_once_its_rung_promotes_it(
    uninterrupted: tuple[list[Any], tuple[Trial, ...]],
) -> None:
    _, trials = uninterrupted
    continued = [trial for trial in trials if trial.kind == CONTINUE]
    assert continued
    by_uid = {trial.uid: trial for trial in trials}
    for trial in continued:
        parent = by_uid[trial.parent or ""]
        assert (parent.state, parent.reason) == (TrialState.PRUNED, "rung")
        assert (trial.params, trial.digest, trial.seed) == (
            parent.params,
            parent.digest,
            parent.seed,
        )
        epochs = [seen.fidelity for seen in trial.measurements]
        assert epochs == list(range(1, len(epochs) + 1))
        assert trial.own_measurements[0].fidelity == parent.reached + 1
    assert sum(trial.kind == "search" and trial.attempts > 0 for trial in trials) == 27
    assert len({trial.parent for trial in continued}) == len(continued)


def test_a_continued_trial_counts_once(
    uninterrupted: tuple[list[Any], tuple[Trial, ...]],
) -> None:
    _, trials = uninterrupted
    continued = {trial.parent for trial in trials if trial.kind == CONTINUE}
    assert sum(counts(trials).values()) == len(trials) - len(continued)
    shown = leaderboard(LARGE, "finished", trials)
    assert sum(shown.counts.values()) == 27
    ranked = {row.uid for row in shown.rows}
    assert ranked == {trial.uid for trial in trials if trial.state is TrialState.COMPLETE}
    winner = best(trials, LARGE.objectives)
    assert winner is not None
    assert shown.rows[0].uid == winner.uid


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize("after", range(1, 60, 7))
def test_killed_at_any_write_and_resumed_it_ends_alike(
    tmp_path: Path,
    after: int,
    acknowledged: bool,
    uninterrupted: tuple[list[Any], tuple[Trial, ...]],
) -> None:
    writes = WRITES | {"carry_out"}
    dying = partial(Dying, after=after, acknowledged=acknowledged, writes=writes)
    finished(tmp_path)
    with pytest.raises(Killed):
        extended(tmp_path, through=dying)
    assert extended(tmp_path)[0] == uninterrupted[0]


def test_a_rebuilt_state_equals_the_live_one(tmp_path: Path) -> None:
    finished(tmp_path)
    extended(tmp_path)
    with opened(tmp_path, LARGE) as one, Ledger.open(tmp_path / "ledger.db") as ledger:
        trials = ledger.trials(1)
        assert one.snapshot().counted == 27
        assert one.snapshot().counts["COMPLETE"] == sum(
            trial.state is TrialState.COMPLETE for trial in trials
        )
        assert sum(one.snapshot().counts.values()) == 27
        assert one.snapshot().epochs == sum(len(t.own_measurements) for t in trials)


def test_a_trial_without_a_checkpoint_starts_over_and_keeps_its_own_curve(tmp_path: Path) -> None:
    finished(tmp_path)
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        ledger.add_request(1, EXTEND, {"trials": 18, "operation": "a"})
    with opened(tmp_path, SMALL) as study:
        run(study)  # this worker measures every epoch again
        live = {t.uid: (t.inherited, len(t.measurements)) for t in study.trials}
        trials = study._ledger.trials(1)
    continued = [trial for trial in trials if trial.kind == CONTINUE]
    assert continued
    assert all(trial.inherited == 0 for trial in continued)
    assert {t.uid: (t.inherited, len(t.measurements)) for t in trials} == live


def test_where_rungs_end_trials_none_continues(tmp_path: Path) -> None:
    stopping = {"pruner": {"name": "halving", "type": "stopping"}}
    with opened(tmp_path, config(stop={"trials": 9}, **stopping)) as study:
        run(study, Resuming(study))
        study._ledger.add_request(1, EXTEND, {"trials": 18, "operation": "a"})
        study._answer_requests()
        run(study, Resuming(study))
        assert study.snapshot().counted == 27
        assert {trial.kind for trial in study.trials} == {"search"}


def pruned(number: int, reached: int, value: float, **changed: Any) -> Trial:
    seen = tuple(
        Measurement(fidelity=epoch, metrics={"val_accuracy": value}, elapsed_s=1.0)
        for epoch in range(1, reached + 1)
    )
    given = {"state": TrialState.PRUNED, "reason": "rung", "measurements": seen}
    return a_trial(number, **{**given, "left_at_rung": True, **changed})


def continuing(parent: Trial, number: int, **changed: Any) -> Trial:
    child = a_trial(number, kind=CONTINUE, parent=parent.uid, **changed)
    return child.after(parent)


OBJECTIVES = SMALL.objectives


def test_only_ended_trials_with_a_sound_result_may_continue() -> None:
    sound = pruned(1, 3, 0.5)
    refused = [
        pruned(2, 3, 0.5, reason="diverged"),
        pruned(3, 3, 0.5, reason="operator"),
        pruned(4, 0, 0.5),
        pruned(5, 3, 0.5, state=TrialState.FAIL, reason="crash"),
        pruned(6, 9, 0.5, state=TrialState.COMPLETE, reason=None, values=(0.5,)),
        pruned(7, 3, 0.5, kind="confirm"),
        pruned(8, 3, 0.5, left_at_rung=False),  # by a pruner of the stopping type
    ]
    assert continuable_trials([sound, *refused], OBJECTIVES, 9) == [sound]
    assert continuable_trials([sound, continuing(sound, 9)], OBJECTIVES, 9) == []
    assert continuable_trials(refused, OBJECTIVES, 27) == [refused[4]]


def test_the_best_pruned_trials_may_continue_longest_trained_first() -> None:
    trials = [pruned(number, 1 + number % 3, number / 100) for number in range(30)]
    found = continuable_trials(trials, OBJECTIVES, 9)
    assert len(found) == MAX_CONTINUABLE
    assert [trial.number for trial in found] == [29, 26, 23, 20, 17, 14, 11, 8, 5, 2]


def test_a_longer_curve_replaces_what_was_inherited_beyond_it() -> None:
    parent = pruned(1, 3, 0.5)
    child = continuing(parent, 2, state=TrialState.RUNNING)
    assert (child.reached, child.inherited, child.own_measurements) == (3, 3, ())
    again = child.measured(replace(parent.measurements[0], fidelity=2))
    assert [seen.fidelity for seen in again.measurements] == [1, 2]
    assert (again.inherited, len(again.own_measurements)) == (1, 1)
    grandchild = continuing(again, 3)
    assert (grandchild.reached, grandchild.inherited) == (2, 2)
    assert newest_continuations([parent, a_trial(4), child, grandchild]) == [grandchild, a_trial(4)]


def test_a_complete_trial_gives_way_to_its_continuation_once_that_is_complete() -> None:
    first = pruned(1, 9, 0.9, state=TrialState.COMPLETE, reason=None, values=(0.9,))
    other = pruned(2, 9, 0.8, state=TrialState.COMPLETE, reason=None, values=(0.8,))
    child = continuing(first, 3, state=TrialState.RUNNING)
    judge = OBJECTIVES[0]
    assert rank([first, other, child], OBJECTIVES, judge).complete == (first, other)
    child = replace(child, state=TrialState.COMPLETE, values=(0.7,))
    assert rank([first, other, child], OBJECTIVES, judge).complete == (other, child)
    assert best([first, other, child], OBJECTIVES) == other


def test_the_best_pruned_trials_keep_their_checkpoints_and_a_parent_until_its_continuation_ends(
    tmp_path: Path,
) -> None:
    trials = []
    for number in range(14):
        trial = pruned(number, 3, number / 100)
        folder = tmp_path / trial.uid / "epoch-3-aa"
        folder.mkdir(parents=True)
        ref = CheckpointRef(path=str(folder), manifest_sha256="a", bytes=1)
        seen = replace(trial.measurements[-1], checkpoint=ref)
        trials.append(replace(trial, measurements=(*trial.measurements[:-1], seen)))
    child = continuing(trials[0], 14, state=TrialState.RUNNING)
    retention = Retention(LocalFolder(tmp_path), OBJECTIVES)
    retention.sweep([*trials, child])

    def left() -> list[int]:
        return [t.number for t in trials if (tmp_path / t.uid).exists()]

    assert left() == [0, *range(4, 14)]
    retention.update(pruned(15, 1, 0.1))
    assert left() == [0, *range(4, 14)]
    retention.update(replace(child, state=TrialState.COMPLETE, values=(0.5,)))
    assert left() == list(range(4, 14))
