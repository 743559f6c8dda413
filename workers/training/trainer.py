"""Training of one candidate as a generator: a measurement an epoch, signs of life in between.

Knows no study: it trains what its job says, and whoever iterates decides whether to go on.
Everything random follows from the job's seed and the epoch, so that a resumed attempt measures
what an uninterrupted one would have: on a CPU to the last bit, on a GPU but for rounding, since
sums are added there in no fixed order.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from search_spaces import losses
from search_spaces.candidate import Candidate, candidate_from_dict
from search_spaces.losses import WeightedLoss
from search_spaces.model_output import Batch
from search_spaces.plugins import load_user_object
from workers import checkpoint
from workers.checkpoint import Checkpoint
from workers.data.dataset import Dataset
from workers.failures import BadCandidateError, with_path
from workers.job import TrainingJob
from workers.measurement import CheckpointRef, Measurement, Progress
from workers.storage import StorageUnreachableError
from workers.training.accumulation import Accumulation
from workers.training.augmentation import AUGMENTATIONS
from workers.training.batches import on_device
from workers.training.device import prepare
from workers.training.ema import WeightEMA
from workers.training.evaluate import MetricAccumulator, evaluate, forward
from workers.training.mixing import mixed
from workers.training.optimization import Optimization
from workers.training.teacher import Teacher

log = logging.getLogger(__name__)

PULSE_S = 5.0
"""Longest time between two signs of life, a single batch aside."""
KEPT_CHECKPOINTS = 2
"""The newest, and the one before in case the newest is damaged."""


class Trainer:
    """One attempt at training one candidate."""

    def __init__(self, job: TrainingJob, dataset: Dataset) -> None:
        """Build network and optimizer from the job's seed, and take up its newest checkpoint.

        Raises:
            BadCandidateError: The candidate cannot be built for this data.
            DeviceError: The job's device is not there.
        """
        self.job = job
        self.started = self.last_pulse = time.monotonic()
        candidate = _candidate(job)
        self.recipe = candidate.recipe
        self.execution = prepare(job, self.recipe.precision)
        torch.manual_seed(_seed(job.seed, "weights"))
        self.network, self.loss = _build(candidate, dataset, self.execution.device)
        self.teacher = _teacher(job, self.loss, dataset, self.execution.device)
        self.averaging = WeightEMA(self.network, self.recipe.weight_average)
        self.accumulation = Accumulation(self.recipe)
        self.value_names = dataset.value_names
        self.train, self.validation, self.normalisation = on_device(dataset, self.execution.device)
        self.num_batches = self.train.num_batches(self.recipe.batch_size)
        self.steps_per_epoch = -(-self.num_batches // self.recipe.accumulation)
        self.loss.scale.expect_steps(job.budget.maximum * self.num_batches)
        self.optimization = Optimization(
            [self.network, self.loss],
            self.recipe,
            job.budget.maximum * self.steps_per_epoch,
        )
        self.kept: list[CheckpointRef] = []
        self.trained = self._resume()

    def run(self) -> Iterator[Measurement | Progress]:
        """Train up to the budget's maximum.

        Raises:
            Diverged: A loss is no finite number.
            OSError: A checkpoint cannot be written.
        """
        yield Progress(epoch=self.trained + 1, done=0.0)
        for epoch in range(self.trained + 1, self.job.budget.maximum + 1):
            learnt, judged = (
                MetricAccumulator(self.execution.device, self.value_names) for _ in range(2)
            )
            yield from self._learn(epoch, learnt)
            metrics = learnt.metrics("train")
            metrics |= self.loss.end_epoch() | self.accumulation.end_epoch()
            yield from self._judge(epoch, judged)
            yield Measurement(
                fidelity=epoch,
                metrics=metrics | judged.metrics("val"),
                checkpoint=self._save(epoch),
                elapsed_s=time.monotonic() - self.started,
            )
            self._forget_old_checkpoints()

    def _learn(self, epoch: int, tally: MetricAccumulator) -> Iterator[Progress]:
        """Show the network every training example once."""
        # Dropout and the like draw from the global generator, order and augmentation from this.
        torch.manual_seed(_seed(self.job.seed, f"noise {epoch}"))
        generator = torch.Generator().manual_seed(_seed(self.job.seed, f"data {epoch}"))
        self.network.train()
        step = (epoch - 1) * self.steps_per_epoch
        grouped = 0
        augment = AUGMENTATIONS[self.recipe.augmentation]
        batches = self.train.shuffled(
            self.recipe.batch_size, augment, generator, second_view="view" in self.loss.needs
        )
        for done, batch in enumerate(batches, start=1):
            self._accumulate(batch, generator, tally)
            grouped += 1
            weight = len(batch.targets_B) / self.recipe.batch_size
            self.accumulation.add(self.optimization.parameters, weight)
            if grouped >= self.accumulation.wanted or done == self.num_batches:
                self._step(step + (done - grouped) / self.recipe.accumulation, grouped)
                grouped = 0
            if self._pulse_is_due():
                tally.mean_loss("train")  # a long epoch need not end to be seen as lost
                yield from self._pulse(epoch, done / self.num_batches)

    def _accumulate(
        self, batch: Batch, generator: torch.Generator, tally: MetricAccumulator
    ) -> None:
        """Add a batch's gradient to those of its group of batches."""
        if self.teacher is not None:
            batch = batch._replace(teacher=self.teacher(batch.raw))
        other, share = None, 1.0
        if self.recipe.mixing != "none":
            batch, other, share = mixed(batch, self.recipe.mixing, generator)
        if "input_gradients" in self.loss.needs:
            inputs = {name: values.requires_grad_() for name, values in batch.inputs.items()}
            batch = batch._replace(inputs=inputs)
        output = forward(self.network, batch.inputs, self.execution)
        if batch.second_view:
            batch = batch._replace(view=forward(self.network, batch.second_view, self.execution))
        value = self.loss(output, batch)
        if other is not None:
            other = other._replace(inputs=batch.inputs, view=batch.view)
            value = value.mix(self.loss(output, other), share)
        self.loss.backward(value, self.optimization.parameters)
        tally.add(value.main, output, batch, other, share)

    def _step(self, position: float, num_batches: int) -> None:
        """Change the weights once, along the mean gradient of so many batches."""
        self.accumulation.end_step(num_batches, self.optimization.parameters)
        self.optimization.step(position, num_batches)
        self.averaging.follow()

    def _judge(self, epoch: int, tally: MetricAccumulator) -> Iterator[Progress]:
        """Count hits on the validation part by the main term, without weights."""
        main_term = self.loss.terms[self.loss.main]
        judged = self.averaging.judged
        judging = evaluate(
            judged,
            main_term,
            self.validation,
            self.execution,
            tally,
            at_once=self.recipe.batch_size,
        )
        for counted in judging:
            if self._pulse_is_due():
                yield from self._pulse(epoch, counted)

    def _pulse_is_due(self) -> bool:
        return time.monotonic() - self.last_pulse >= PULSE_S

    def _pulse(self, epoch: int, done: float) -> Iterator[Progress]:
        """A sign of life; whoever gets it may draw random numbers of their own in this process."""
        randomness = torch.get_rng_state()
        yield Progress(epoch=epoch, done=done)
        torch.set_rng_state(randomness)
        self.last_pulse = time.monotonic()

    def _resume(self) -> int:
        """Take up the newest whole checkpoint: how many epochs it has seen, 0 without one."""
        found, reference, rejected = checkpoint.load_first_valid(
            self.job.resume_from, self.job.checkpoints
        )
        for reason in rejected:
            log.warning("trial %d: not resumed from %s", self.job.trial_number, reason)
        if found is None or reference is None:
            if rejected:
                log.warning("trial %d: no whole checkpoint: starts over", self.job.trial_number)
            return 0
        self._compute_as(str(found.state.get("precision", self.execution.precision)))
        trained = _beneath("training.", found.tensors)
        self.averaging.remember(_beneath("network.", found.tensors), trained)
        self.accumulation.load_state_dict(_beneath("accumulation.", found.tensors))
        self.loss.load_state_dict(_beneath("loss.", found.tensors))
        self.optimization.remember(_beneath("optimizer.", found.tensors))
        self.kept.append(reference)
        return found.epoch

    def _compute_as(self, precision: str) -> None:
        """Go on in the precision that the trial began in: another node may be made for another."""
        if precision == self.execution.precision:
            return
        log.warning(
            "trial %d: began in %s, which it keeps; this worker would take %s",
            *(self.job.trial_number, precision, self.execution.precision),
        )
        self.execution = prepare(self.job, precision)

    def _save(self, epoch: int) -> CheckpointRef | None:
        folder = self.job.checkpoints
        if folder is None:
            return None
        parts = {
            "network": self.averaging.judged.state_dict(),
            "training": self.averaging.memory(),
            "accumulation": self.accumulation.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimization.memory(),
        }
        tensors = {
            # Copies of their own in the plain layout: files know neither strides nor sharing.
            f"{part}.{name}": value.detach().to("cpu", copy=True).contiguous()
            for part, named in parts.items()
            for name, value in named.items()
        }
        state = {
            "trial_uid": self.job.key.trial_uid,
            "attempt": self.job.key.number,
            "normalisation": self.normalisation.to_dict(),
            "precision": self.execution.precision,
        }
        try:
            saved = checkpoint.save(folder, Checkpoint(epoch=epoch, tensors=tensors, state=state))
        except StorageUnreachableError:
            raise  # says where already
        except OSError as error:
            raise with_path(error, str(folder)) from error
        self.kept.append(saved)
        return saved

    def _forget_old_checkpoints(self) -> None:
        """Drop all but the newest of those that this attempt saved or began with.

        Called only when the newest was taken, so that the ledger never refers to less than two;
        files of attempts that it does not know of stay: they may be a newer attempt's.
        """
        folder = self.job.checkpoints
        while folder is not None and len(self.kept) > KEPT_CHECKPOINTS:
            checkpoint.remove(self.kept.pop(0), folder)


def _candidate(job: TrainingJob) -> Candidate:
    try:
        if job.space is not None:
            # Not for the space itself: its file may register the blocks that the candidate names.
            load_user_object(job.space, Path.cwd())
        candidate = candidate_from_dict(job.candidate)
    except (ValueError, LookupError) as error:
        raise BadCandidateError(f"the candidate cannot be read: {error}") from error
    if not isinstance(candidate, Candidate):
        raise BadCandidateError(
            "only the user's own train generator knows what these decisions mean"
        )
    return candidate


def _build(
    candidate: Candidate, dataset: Dataset, device: torch.device
) -> tuple[nn.Module, WeightedLoss]:
    """Network and loss on the device, weights drawn from torch's generator."""
    try:
        loss = losses.build(candidate.losses)
        network = candidate.architecture.build(dataset.task, auxiliary="auxiliary" in loss.needs)
    except (ValueError, LookupError, TypeError, RuntimeError) as error:
        raise BadCandidateError(f"the candidate cannot be built: {error}") from error
    # Convolutions on a CPU take up to two thirds less time this way.
    network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network, loss.to(device)


def _teacher(
    job: TrainingJob, loss: WeightedLoss, dataset: Dataset, device: torch.device
) -> Teacher | None:
    if "teacher" not in loss.needs:
        return None
    if job.teacher is None:
        raise BadCandidateError("its loss distils, but the study has no teacher; set teacher")
    return Teacher(job.teacher, dataset, device)


def _seed(seed: int, purpose: str) -> int:
    """A seed of its own for each purpose, unrelated to all others."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _beneath(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
