"""Training of one candidate as a generator: a measurement per epoch, progress in between.

The caller decides whether to continue. All randomness depends on the job's seed and the epoch, so
that a resumed attempt measures what an uninterrupted one would have: bit for bit on a CPU, up to
rounding on a GPU, where sums have no fixed order.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

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
from workers.training.ema import WeightEMA, add_prefix, select_prefix
from workers.training.evaluate import MetricAccumulator, evaluate, forward
from workers.training.kept_checkpoints import KeptCheckpoints
from workers.training.mixing import mix
from workers.training.optimization import Optimization
from workers.training.teacher import TeacherNetwork

log = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 5.0
"""Maximum time between two progress reports, unless a single batch takes longer."""


class Trainer:
    """Trainer of one attempt at one candidate.

    Examples:
        >>> for step in Trainer(job, dataset).run():
        ...     if isinstance(step, Measurement):
        ...         print(step.fidelity, step.metrics["val_accuracy"])
    """

    def __init__(self, job: TrainingJob, dataset: Dataset) -> None:
        """Build network and optimizer from the job's seed, and load its newest checkpoint.

        Raises:
            BadCandidateError: The candidate cannot be built for this data.
            DeviceError: The job's device is not available.
        """
        self.job = job
        self.started = self.last_progress = time.monotonic()
        candidate = _candidate(job)
        self.recipe = candidate.recipe
        self.execution = prepare(job, self.recipe.precision)
        torch.manual_seed(_seed(job.seed, "weights"))
        self.network, self.loss = _build(candidate, dataset, self.execution.device)
        self.teacher = _teacher(job, self.loss, dataset, self.execution.device)
        self.ema = WeightEMA(self.network, self.recipe.weight_average)
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
        self.checkpoints = KeptCheckpoints(job.best_epoch)
        self.epochs_trained = self._resume()

    def run(self) -> Iterator[Measurement | Progress]:
        """Train up to the budget's maximum.

        Yields:
            A measurement after each epoch, and progress in between.

        Raises:
            DivergedError: A loss is not finite.
            OSError: A checkpoint cannot be written.
        """
        yield Progress(epoch=self.epochs_trained + 1, done=0.0)
        for epoch in range(self.epochs_trained + 1, self.job.budget.maximum + 1):
            training, validation = (
                MetricAccumulator(self.execution.device, self.value_names) for _ in range(2)
            )
            yield from self._train_epoch(epoch, training)
            metrics = training.metrics("train")
            metrics |= self.loss.end_epoch() | self.accumulation.end_epoch()
            yield from self._evaluate(epoch, validation)
            metrics |= validation.metrics("val")
            yield Measurement(
                fidelity=epoch,
                metrics=metrics,
                checkpoint=self._save(epoch, metrics),
                elapsed_s=time.monotonic() - self.started,
            )
            # Only now is it recorded: the ledger never refers to fewer than two.
            if self.job.checkpoints is not None:
                self.checkpoints.remove_old(self.job.checkpoints)

    def _train_epoch(self, epoch: int, accumulator: MetricAccumulator) -> Iterator[Progress]:
        """Train on every example once."""
        # Dropout uses the global generator, order and augmentation use this one.
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
            self._accumulate(batch, generator, accumulator)
            grouped += 1
            weight = len(batch.targets_B) / self.recipe.batch_size
            self.accumulation.add(self.optimization.parameters, weight)
            if grouped >= self.accumulation.num_batches or done == self.num_batches:
                self._step(step + (done - grouped) / self.recipe.accumulation, grouped)
                grouped = 0
            if self._is_progress_due():
                accumulator.mean_loss("train")  # detects divergence within a long epoch
                yield from self._report_progress(epoch, done / self.num_batches)

    def _accumulate(
        self, batch: Batch, generator: torch.Generator, accumulator: MetricAccumulator
    ) -> None:
        """Add the gradient of a batch to those of the current step."""
        if self.teacher is not None:
            batch = batch._replace(teacher=self.teacher(batch.raw))
        other, share = None, 1.0
        if self.recipe.mixing != "none":
            batch, other, share = mix(batch, self.recipe.mixing, generator)
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
        accumulator.add(value.main, output, batch, other, share)

    def _step(self, position: float, num_batches: int) -> None:
        """Take an optimizer step along the mean gradient of the batches."""
        self.accumulation.end_step(num_batches, self.optimization.parameters)
        self.optimization.step(position, num_batches)
        self.ema.update()

    def _evaluate(self, epoch: int, accumulator: MetricAccumulator) -> Iterator[Progress]:
        """Evaluate on the validation split by the unweighted main term."""
        main_term = self.loss.terms[self.loss.main]
        steps = evaluate(
            self.ema.evaluated,
            main_term,
            self.validation,
            self.execution,
            accumulator,
            max_batch_size=self.recipe.batch_size,
        )
        for done in steps:
            if self._is_progress_due():
                yield from self._report_progress(epoch, done)

    def _is_progress_due(self) -> bool:
        return time.monotonic() - self.last_progress >= PROGRESS_INTERVAL_S

    def _report_progress(self, epoch: int, done: float) -> Iterator[Progress]:
        """Yield progress; the caller may use torch's random generator in between."""
        randomness = torch.get_rng_state()
        yield Progress(epoch=epoch, done=done)
        torch.set_rng_state(randomness)
        self.last_progress = time.monotonic()

    def _resume(self) -> int:
        """Load the newest valid checkpoint.

        Returns:
            Number of epochs it was trained for; 0 without a checkpoint.
        """
        found, reference, rejected = checkpoint.load_first_valid(
            self.job.resume_from, *self.job.readable_checkpoints
        )
        for reason in rejected:
            log.warning("trial %d: not resumed from %s", self.job.trial_number, reason)
        if found is None or reference is None:
            if rejected:
                log.warning("trial %d: no valid checkpoint: starts over", self.job.trial_number)
            return 0
        self._keep_precision(str(found.state.get("precision", self.execution.precision)))
        self.ema.load_state_dict(found.tensors)
        self.accumulation.load_state_dict(select_prefix("accumulation.", found.tensors))
        self.loss.load_state_dict(select_prefix("loss.", found.tensors))
        self.optimization.load_state_dict(select_prefix("optimizer.", found.tensors))
        self.checkpoints.add(reference, {})
        return found.epoch

    def _keep_precision(self, precision: str) -> None:
        """Continue in the precision that the trial began in: another node may prefer another."""
        if precision == self.execution.precision:
            return
        log.warning(
            "trial %d: continues in %s, in which it began; this worker prefers %s",
            *(self.job.trial_number, precision, self.execution.precision),
        )
        self.execution = prepare(self.job, precision)

    def _save(self, epoch: int, metrics: Mapping[str, float]) -> CheckpointRef | None:
        folder = self.job.checkpoints
        if folder is None:
            return None
        tensors = {
            **self.ema.state_dict(),
            **add_prefix("accumulation.", self.accumulation.state_dict()),
            **add_prefix("loss.", self.loss.state_dict()),
            **add_prefix("optimizer.", self.optimization.state_dict()),
        }
        tensors = {
            # Contiguous copies: safetensors supports neither strides nor shared memory.
            name: value.detach().to("cpu", copy=True).contiguous()
            for name, value in tensors.items()
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
            raise  # already names the store
        except OSError as error:
            raise with_path(error, str(folder)) from error
        self.checkpoints.add(saved, metrics)
        return saved


def _candidate(job: TrainingJob) -> Candidate:
    try:
        if job.space is not None:
            # Only for its side effect: the file may register the blocks that the candidate names.
            load_user_object(job.space, Path.cwd())
        candidate = candidate_from_dict(job.candidate)
    except (ValueError, LookupError) as error:
        raise BadCandidateError(f"the candidate cannot be read: {error}") from error
    if not isinstance(candidate, Candidate):
        raise BadCandidateError(
            "these decisions can be trained only by the user's own train generator"
        )
    return candidate


def _build(
    candidate: Candidate, dataset: Dataset, device: torch.device
) -> tuple[nn.Module, WeightedLoss]:
    """Return network and loss on the device; torch's generator initializes the weights."""
    try:
        loss = losses.build(candidate.losses)
        network = candidate.architecture.build(dataset.task, auxiliary="auxiliary" in loss.needs)
    except (ValueError, LookupError, TypeError, RuntimeError) as error:
        raise BadCandidateError(f"the candidate cannot be built: {error}") from error
    # Channels-last convolutions on a CPU take up to two thirds less time.
    network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network, loss.to(device)


def _teacher(
    job: TrainingJob, loss: WeightedLoss, dataset: Dataset, device: torch.device
) -> TeacherNetwork | None:
    if "teacher" not in loss.needs:
        return None
    if job.teacher is None:
        raise BadCandidateError("its loss distils, but the study has no teacher; set teacher")
    return TeacherNetwork(job.teacher, dataset, device)


def _seed(seed: int, purpose: str) -> int:
    """Return an independent seed for a purpose."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
