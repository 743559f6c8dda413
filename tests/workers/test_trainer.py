"""Training learns, reports, resumes to the same numbers, and says when it leaves finite numbers."""

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from search_spaces.loss_terms import LossTerm, LossWeights
from workers import manifest
from workers.budget import Budget
from workers.data import Dataset
from workers.data.dataset import Split
from workers.failures import BadCandidateError, DivergedError
from workers.job import TeacherRef, TrainingJob
from workers.measurement import CheckpointRef, Measurement, Progress
from workers.training import device as device_module
from workers.training import trainer as trainer_module
from workers.training.teacher import FACTS, WEIGHTS
from workers.training.trainer import Trainer

TWO_TERMS = {"cross_entropy": LossTerm(), "auxiliary": LossTerm()}
MakeJob = Callable[..., TrainingJob]


def measured(run: Iterator[Measurement | Progress]) -> list[Measurement]:
    return [results for results in run if isinstance(results, Measurement)]


def metrics(results: list[Measurement]) -> list[Mapping[str, float]]:
    return [measurement.metrics for measurement in results]


def test_a_small_network_learns_the_digits_in_a_few_epochs(
    make_job: MakeJob, digits: Dataset
) -> None:
    recipe = {"augmentation": "none", "batch_size": 32, "learning_rate": 1e-2}
    results = measured(Trainer(make_job(epochs=5, recipe=recipe), digits).run())
    assert [measurement.fidelity for measurement in results] == [1, 2, 3, 4, 5]
    assert results[-1].metrics["val_accuracy"] >= 0.9
    assert results[-1].metrics["train_loss"] < results[0].metrics["train_loss"]
    assert set(results[-1].metrics) == {"train_loss", "train_accuracy", "val_loss", "val_accuracy"}
    assert all(a.elapsed_s < b.elapsed_s for a, b in pairwise(results))


@pytest.mark.parametrize(
    "recipe",
    [
        {"augmentation": "cutout", "batch_size": 128},
        {"optimizer": "sgd_nesterov", "learning_rate": 0.1, "accumulation": 2},
        {"precision": "bfloat16", "schedule": "cosine"},
        {"losses": LossWeights(terms=TWO_TERMS)},
        {"losses": LossWeights(terms=TWO_TERMS, balancer="uncertainty")},
        {"losses": LossWeights(terms=TWO_TERMS, balancer="dwa")},
        {"losses": LossWeights(terms=TWO_TERMS, balancer="gradnorm")},
        {"mixing": "mixup", "weight_average": 0.9, "accumulation_rule": "forecast"},
        {"mixing": "cutmix", "augmentation": "erasing", "accumulation_rule": "variance"},
    ],
    ids=[
        *("adamw", "sgd", "bfloat16", "auxiliary", "uncertainty", "dwa", "gradnorm"),
        *("mixup", "cutmix"),
    ],
)
def test_an_interrupted_and_resumed_training_equals_an_uninterrupted_one(
    make_job: MakeJob, digits: Dataset, tmp_path: Path, recipe: dict[str, Any]
) -> None:
    job = make_job(epochs=4, seed=3, recipe=recipe, checkpoint_dir=str(tmp_path))
    whole = measured(Trainer(dataclasses.replace(job, checkpoint_dir=None), digits).run())
    first: list[Measurement] = []
    run = Trainer(job, digits).run()
    while len(first) < 2:
        results = next(run)
        if isinstance(results, Measurement):
            first.append(results)
    run.close()  # type: ignore[attr-defined]
    torch.rand(3)  # what others draw in this process changes nothing
    kept = tuple(m.checkpoint for m in reversed(first) if m.checkpoint is not None)
    second = measured(Trainer(dataclasses.replace(job, resume_from=kept), digits).run())
    assert metrics(first + second) == metrics(whole)
    assert [measurement.fidelity for measurement in second] == [3, 4]


def test_a_trial_keeps_the_precision_it_began_in_on_a_node_made_for_another(
    make_job: MakeJob,
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(device_module, "has_bfloat16_tiles", lambda: True)
    job = make_job(epochs=2, checkpoint_dir=str(tmp_path))
    first, second = measured(Trainer(job, digits).run())
    assert first.checkpoint is not None
    monkeypatch.setattr(device_module, "has_bfloat16_tiles", lambda: False)
    resumed = Trainer(dataclasses.replace(job, resume_from=(first.checkpoint,)), digits)
    assert metrics(measured(resumed.run())) == [second.metrics]
    assert "continues in bfloat16, in which it began; this worker prefers float32" in caplog.text


def test_another_seed_trains_another_network(make_job: MakeJob, digits: Dataset) -> None:
    losses = {
        measured(Trainer(make_job(epochs=1, seed=seed), digits).run())[0].metrics["val_loss"]
        for seed in (0, 1, 2)
    }
    assert len(losses) == 3


def test_the_two_newest_checkpoints_stay_and_older_ones_go(
    make_job: MakeJob, digits: Dataset, tmp_path: Path
) -> None:
    job = make_job(epochs=4, checkpoint_dir=str(tmp_path))
    results = measured(Trainer(job, digits).run())
    kept = [m.checkpoint.path for m in results if m.checkpoint and Path(m.checkpoint.path).exists()]
    assert kept == [m.checkpoint.path for m in results[-2:] if m.checkpoint]
    assert len(list(tmp_path.iterdir())) == 2


def test_an_older_checkpoint_is_kept_until_the_newer_one_is_recorded(
    make_job: MakeJob, digits: Dataset, tmp_path: Path
) -> None:
    run = Trainer(make_job(epochs=4, checkpoint_dir=str(tmp_path)), digits).run()
    seen = 0
    while seen < 3:
        seen += isinstance(next(run), Measurement)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    make_job: MakeJob, digits: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = make_job(epochs=2, checkpoint_dir=str(tmp_path))
    results = measured(Trainer(job, digits).run())
    older, newer = (m.checkpoint for m in results)
    assert older is not None
    assert newer is not None
    damaged = Path(newer.path) / "tensors.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        again = measured(
            Trainer(dataclasses.replace(job, resume_from=(newer, older)), digits).run()
        )
    assert metrics(again) == metrics(results[1:])
    assert "not resumed from" in caplog.text


def test_a_trial_without_a_whole_checkpoint_starts_over_and_says_so(
    make_job: MakeJob, digits: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = CheckpointRef(path=str(tmp_path / "gone"), manifest_sha256="0" * 64, bytes=1)
    with caplog.at_level(logging.WARNING):
        results = measured(Trainer(make_job(epochs=1, resume_from=(gone,)), digits).run())
    assert results[0].fidelity == 1
    assert "starts over" in caplog.text


def test_a_training_that_is_not_finite_is_classified_as_diverged(
    make_job: MakeJob, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = {
        "optimizer": "sgd_nesterov",
        "learning_rate": 1e30,
        "gradient_clip": None,
        "schedule": "constant",
        "warmup": 0.0,
        "precision": "float32",
    }
    with pytest.raises(DivergedError, match=r"train_loss is (nan|inf)"):
        measured(Trainer(make_job(recipe=wild), digits).run())
    monkeypatch.setattr(trainer_module, "PROGRESS_INTERVAL_S", 0.0)
    seen: list[Measurement | Progress] = []
    with pytest.raises(DivergedError, match=r"train_loss is (nan|inf)"):
        seen.extend(Trainer(make_job(recipe=wild), digits).run())
    assert 0 < len(seen) < 10  # of 19 batches: within the epoch, not at its end


def test_a_candidate_that_cannot_be_built_is_classified_as_bad(
    make_job: MakeJob, digits: Dataset
) -> None:
    candidate = make_job().candidate
    broken = {**candidate, "architecture": {**candidate["architecture"], "streams": {}}}
    with pytest.raises(BadCandidateError, match="streams"):
        Trainer(make_job(candidate=broken), digits)
    with pytest.raises(BadCandidateError, match="decisions"):
        Trainer(make_job(candidate={"schema": 1, "decisions": {"x": 1}}), digits)


def test_the_reported_loss_is_the_main_term_whatever_its_weight(
    make_job: MakeJob, digits: Dataset
) -> None:
    def first_loss(side: float) -> float:
        terms = {"cross_entropy": LossTerm(), "supervised_contrastive": LossTerm(weight=side)}
        recipe = {"losses": LossWeights(main="cross_entropy", terms=terms), "learning_rate": 1e-12}
        return measured(Trainer(make_job(epochs=1, recipe=recipe), digits).run())[0].metrics[
            "val_loss"
        ]

    # Nothing is learned at such a rate, so only the weights could make a difference.
    assert first_loss(0.1) == pytest.approx(first_loss(2.0), rel=1e-4)
    assert first_loss(0.1) == pytest.approx(np.log(10), rel=0.3)


def test_accumulated_batches_step_as_one_large_batch(make_job: MakeJob, digits: Dataset) -> None:
    # Both batch sizes divide this number, so both see the same examples in the same steps.
    even = dataclasses.replace(digits, train=digits.train.take(np.arange(1024)))

    def weights(batch_size: int, accumulation: int) -> dict[str, torch.Tensor]:
        recipe = {
            "optimizer": "sgd_nesterov",
            "learning_rate": 0.05,
            "batch_size": batch_size,
            "accumulation": accumulation,
            "augmentation": "none",
            "precision": "float32",
            "normalisation": "group",
        }
        trainer = Trainer(make_job(epochs=1, recipe=recipe), even)
        # Dropout samples by batch, hence differently for other batch sizes.
        for module in trainer.network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        measured(trainer.run())
        return dict(trainer.network.state_dict())

    large, small, unlike = weights(256, 1), weights(64, 4), weights(64, 1)

    def difference(other: dict[str, torch.Tensor]) -> float:
        return max(float((large[name] - other[name]).abs().max()) for name in large)

    assert difference(small) < 1e-5
    assert difference(unlike) > 1e-2


def test_signs_of_life_come_between_measurements_and_carry_the_share_done(
    make_job: MakeJob, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "PROGRESS_INTERVAL_S", 0.0)
    job = make_job(epochs=1)
    results = list(Trainer(job, digits).run())
    signs = [one for one in results if isinstance(one, Progress)]
    assert len(signs) > 10
    assert all(sign.epoch == 1 and 0 <= sign.done <= 1 for sign in signs)
    monkeypatch.setattr(trainer_module, "PROGRESS_INTERVAL_S", 1e9)
    quiet = measured(Trainer(job, digits).run())
    assert metrics(quiet) == metrics([one for one in results if isinstance(one, Measurement)])


def test_random_numbers_used_by_others_between_progress_reports_change_nothing(
    make_job: MakeJob, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = measured(Trainer(make_job(epochs=2), digits).run())
    monkeypatch.setattr(trainer_module, "PROGRESS_INTERVAL_S", 0.0)
    results = []
    for one in Trainer(make_job(epochs=2), digits).run():
        torch.rand(7)
        results.append(one)
    disturbed = [one for one in results if isinstance(one, Measurement)]
    assert metrics(disturbed) == metrics(undisturbed)


def test_a_checkpoint_at_the_budgets_end_leaves_nothing_to_train(
    make_job: MakeJob, digits: Dataset, tmp_path: Path
) -> None:
    job = make_job(epochs=1, checkpoint_dir=str(tmp_path))
    last = measured(Trainer(job, digits).run())[-1].checkpoint
    assert last is not None
    resumed = dataclasses.replace(job, resume_from=(last,), budget=Budget(maximum=1))
    assert measured(Trainer(resumed, digits).run()) == []


def test_a_second_view_of_every_batch_is_trained_on(make_job: MakeJob, digits: Dataset) -> None:
    terms = {"cross_entropy": LossTerm(), "consistency": LossTerm(weight=0.5)}
    recipe = {"losses": LossWeights(main="cross_entropy", terms=terms), "mixing": "cutmix"}
    results = measured(Trainer(make_job(epochs=1, recipe=recipe), digits).run())
    assert results[0].metrics["terms/consistency"] > 0


def taught_on(
    digits: Dataset, make_job: MakeJob, folder: Path, names: Sequence[str] = ()
) -> TeacherRef:
    """A network of a few steps, laid in a folder as a teacher."""
    job = make_job(epochs=1)
    teacher = Trainer(job, digits)
    prepared = digits.preprocessing
    assert prepared is not None
    facts = {
        "candidate": job.candidate,
        "inputs": {"image": [1, 8, 8]},
        "class_names": list(names or digits.class_names),
        "preprocessing": prepared.to_dict(),
        "normalisation": teacher.normalisation.to_dict(),
    }
    (folder / FACTS).write_text(json.dumps(facts))
    (folder / WEIGHTS).write_bytes(
        safetensors.torch.save(
            {name: value.contiguous() for name, value in teacher.network.state_dict().items()}
        )
    )
    return TeacherRef(path=str(folder), sha256=manifest.write(folder))


def test_a_student_distils_from_a_verified_teacher(
    make_job: MakeJob, digits: Dataset, tmp_path: Path
) -> None:
    terms = {"cross_entropy": LossTerm(), "distillation": LossTerm()}
    recipe = {"losses": LossWeights(main="cross_entropy", terms=terms)}
    job = make_job(epochs=1, recipe=recipe)
    with pytest.raises(BadCandidateError, match="the study has no teacher"):
        Trainer(job, digits)
    reference = taught_on(digits, make_job, tmp_path)
    distilled = measured(Trainer(dataclasses.replace(job, teacher=reference), digits).run())
    assert distilled[0].metrics["terms/distillation"] >= 0
    (tmp_path / WEIGHTS).write_bytes(b"other")
    with pytest.raises(BadCandidateError, match=r"weights\.safetensors has changed"):
        Trainer(dataclasses.replace(job, teacher=reference), digits)


def test_a_teacher_with_classes_in_another_order_is_refused(
    make_job: MakeJob, digits: Dataset, tmp_path: Path
) -> None:
    terms = {"cross_entropy": LossTerm(), "distillation": LossTerm()}
    job = make_job(epochs=1, recipe={"losses": LossWeights(terms=terms)})
    turned = taught_on(digits, make_job, tmp_path, digits.class_names[::-1])
    with pytest.raises(
        BadCandidateError, match=r"outputs 10 classes \(9, 8, .*; this study's data has"
    ):
        Trainer(dataclasses.replace(job, teacher=turned), digits)


def test_a_classifier_teaches_a_multi_task_student(
    make_job: MakeJob, digits: Dataset, tmp_path: Path
) -> None:
    terms = {"cross_entropy": LossTerm(), "distillation": LossTerm(), "mse": LossTerm()}
    student = make_job(epochs=1, recipe={"losses": LossWeights(terms=terms)})
    candidate = {**student.candidate, "architecture": dict(student.candidate["architecture"])}
    candidate["architecture"]["head"] = {"kind": "both"}
    reference = taught_on(digits, make_job, tmp_path)
    job = dataclasses.replace(student, teacher=reference, candidate=candidate)
    (results,) = measured(Trainer(job, with_values(digits)).run())
    assert results.metrics["terms/distillation"] > 0


def with_values(dataset: Dataset) -> Dataset:
    """The same examples, each with its class as a regression target."""

    def results(part: Split) -> Split:
        return dataclasses.replace(part, values=part.targets[:, None].astype(np.float32))

    return dataclasses.replace(
        dataset,
        task=dataclasses.replace(dataset.task, num_values=1),
        train=results(dataset.train),
        validation=results(dataset.validation),
        value_names=("class",),
    )
