"""Paused trials: promoted later from where they stopped, or pruned at the end of the study."""

from pathlib import Path
from typing import Any

from support.studies import BRANCHING, config, curve, opened, run

from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Ledger
from orchestrator.sampling import halving
from orchestrator.snapshot import Verdict
from orchestrator.study.driver import StudyDriver
from orchestrator.trial import Trial, TrialState
from workers.job import TrainingJob
from workers.measurement import CheckpointRef, Measurement


def pausing(**changed: Any) -> StudyConfig:
    """A study of two rungs, whose first audited trial is number 18."""
    parts = {"budget": {"minimum": 1, "maximum": 3}, "sampler": {"name": "random"}, "seed": 1}
    return config(**parts | changed)


def measured(epoch: int, value: float) -> Measurement:
    checkpoint = CheckpointRef(path=f"epoch-{epoch}", manifest_sha256="0" * 64, bytes=1)
    return Measurement(
        fidelity=epoch, metrics={"val_accuracy": value}, elapsed_s=1.0, checkpoint=checkpoint
    )


def train(study: StudyDriver, job: TrainingJob, value: float, *, after: int = 0) -> Verdict:
    """Trains an attempt at a constant value until the study says otherwise."""
    for epoch in range(after + 1, 4):
        verdict = study.report(job.key, measured(epoch, value))
        if verdict is not Verdict.CONTINUE:
            study.requeue(job.key)
            return verdict
    study.tell(job.key)
    return Verdict.CONTINUE


def next_job(study: StudyDriver) -> TrainingJob:
    job = study.ask()
    assert job is not None
    return job


def test_a_trial_that_is_not_promoted_is_paused_with_its_checkpoint(tmp_path: Path) -> None:
    with opened(tmp_path, pausing()) as study:
        train(study, next_job(study), 0.9)
        assert train(study, next_job(study), 0.5) is Verdict.PAUSE
        paused = study.trials[1]
        assert (paused.state, paused.paused, paused.reached) == (TrialState.WAITING, True, 1)
        assert study.snapshot().counts["PAUSED"] == 1
        assert not study.finished


def test_the_best_paused_trial_continues_when_there_is_room(tmp_path: Path) -> None:
    with opened(tmp_path, pausing()) as study:
        train(study, next_job(study), 0.9)
        for value in (0.5, 0.7, 0.1, 0.2):
            assert train(study, next_job(study), value) is Verdict.PAUSE
        train(study, next_job(study), 0.3)  # the sixth makes room for a second
        job = next_job(study)
        assert (job.trial_number, job.key.number) == (2, 2)
        assert [kept.path for kept in job.resume_from] == ["epoch-1"]
        train(study, job, 0.7, after=1)
        assert study.trials[2].state is TrialState.COMPLETE
        assert [seen.fidelity for seen in study.trials[2].measurements] == [1, 2, 3]


def test_an_interrupted_trial_starts_before_a_promoted_one(tmp_path: Path) -> None:
    with opened(tmp_path, pausing()) as study:
        train(study, next_job(study), 0.9)
        for value in (0.5, 0.7, 0.1, 0.2):
            train(study, next_job(study), value)
        interrupted = next_job(study)
        study.report(interrupted.key, measured(1, 0.3))
    with opened(tmp_path, pausing()) as study:
        # It is judged first, since it had reached a rung, and then the best paused one continues.
        assert next_job(study).trial_number == 2
        assert study.trials[5].paused


def test_a_trial_that_is_promoted_meanwhile_starts_before_the_one_sampled_ahead(
    tmp_path: Path,
) -> None:
    with opened(tmp_path, pausing()) as study:
        train(study, next_job(study), 0.9)
        for value in (0.5, 0.7, 0.1, 0.2):
            train(study, next_job(study), value)
        last = next_job(study)
        study.sample_ahead()
        assert [(t.number, t.attempts) for t in study.trials if not t.attempts] == [(6, 0)]
        train(study, last, 0.3)  # makes room for a second
        assert [next_job(study).trial_number for _ in range(2)] == [2, 6]


def test_paused_trials_are_pruned_when_nothing_more_may_start(tmp_path: Path) -> None:
    with opened(tmp_path, pausing(stop={"trials": 3})) as study:
        train(study, next_job(study), 0.9)
        for _ in range(2):
            train(study, next_job(study), 0.5)
        assert study.finished
        assert [(t.state, t.reason) for t in study.trials] == [
            (TrialState.COMPLETE, None),
            *[(TrialState.PRUNED, "rung")] * 2,
        ]


def test_a_signal_leaves_them_paused_and_a_reached_target_does_not(tmp_path: Path) -> None:
    for reason, paused in (("signal", True), ("target", False), ("hours", False)):
        with opened(tmp_path / reason, pausing()) as study:
            train(study, next_job(study), 0.9)
            train(study, next_job(study), 0.5)
            study.request_stop(reason)
        with Ledger.open(tmp_path / reason / "ledger.db") as ledger:
            trial = ledger.trials(1)[1]
        assert trial.paused is paused
        assert (trial.state is TrialState.WAITING) is paused


def test_a_pause_is_no_loss_and_no_failure(tmp_path: Path) -> None:
    with opened(tmp_path, pausing()) as study:
        train(study, next_job(study), 0.9)
        train(study, next_job(study), 0.5)
    for _ in range(5):
        with opened(tmp_path, pausing()) as study:
            assert study.trials[1].paused
            assert study.trials[1].failure is None


def test_the_number_of_paused_trials_is_bounded(tmp_path: Path) -> None:
    with opened(tmp_path, pausing(stop={"trials": 40})) as study:
        train(study, next_job(study), 1.0)
        while len(study.trials) < 30:
            job = next_job(study)
            train(study, job, 0.5 - job.trial_number / 100, after=job.key.number - 1)
        assert study.snapshot().counts["PAUSED"] == halving.MAX_PAUSED
        ended = [t for t in study.trials if t.reason == "rung"]
        assert ended
        for trial in ended:
            better = [t for t in study.trials if t.reached and score(t) > score(trial)]
            assert len(better) > halving.MAX_PAUSED


def score(trial: Trial) -> float:
    return trial.measurements[-1].metrics["val_accuracy"]


def test_the_type_stopping_prunes_at_once(tmp_path: Path) -> None:
    stopping = pausing(pruner={"name": "halving", "type": "stopping"})
    with opened(tmp_path, stopping) as study:
        train(study, next_job(study), 0.9)
        job = next_job(study)
        assert study.report(job.key, measured(1, 0.5)) is Verdict.STOP
        study.tell(job.key)
        assert (study.trials[1].state, study.trials[1].reason) == (TrialState.PRUNED, "rung")


def test_no_epoch_is_lost_and_every_trial_ends_once(tmp_path: Path) -> None:
    asked = config(stop={"trials": 40}, budget={"maximum": 9}, sampler={"name": "random"})
    with opened(tmp_path, asked, space=BRANCHING) as study:
        run(study, curve)
        assert study.finished
        assert all(trial.state.is_terminal for trial in study.trials)
        promoted = [t for t in study.trials if t.attempts > 1]
        assert promoted
        for trial in study.trials:
            epochs = [seen.fidelity for seen in trial.measurements]
            assert epochs == list(range(1, len(epochs) + 1))
            assert len(epochs) in {3, 9}
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        events = [event for event in ledger.events(1, 0, 10_000) if event.kind == "trial_finished"]
        assert len(events) == len({event.payload["uid"] for event in events}) == 40
