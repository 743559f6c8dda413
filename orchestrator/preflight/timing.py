"""The pace of this machine for one study: a handful of its candidates, timed as they will train."""

import logging
from collections.abc import Iterable, Sequence

from orchestrator.config.resources import with_gpu_decided
from orchestrator.config.schema import StudyConfig
from orchestrator.preflight.candidates import Probe
from orchestrator.preflight.deadline import Box
from orchestrator.preflight.pacing import Load, Pace, Timed, learnt
from orchestrator.study.prepare import Opened
from workers.calibration import Place, miniature
from workers.data.limits import available_bytes, usable_cores

log = logging.getLogger(__name__)

FEWEST, MOST = 2, 8
"""Batches of each miniature epoch: of small networks more, lest the epoch's own time count."""
ENOUGH_FLOPS = 2e9
"""Work of a forward pass that makes a miniature epoch long enough."""
MOST_TIMED = 12
ONE_S = 2.0
"""The first one may take so long even where no time is left: one is worth much more than none."""
SLOWEST = 12 / 2e10
"""Seconds for each FLOP of a batch, of which a miniature has twelve forward passes' worth, on a
machine slower than most."""
CARE = 2.0
"""The next network may take so many times what the last ones foretell."""
_MEMORY_SHARE = 4
_COPIES = 4
"""Activations, their gradients, and as much again for what lies between."""


def load_of(probe: Probe) -> Load:
    """What decides how long a counted candidate trains."""
    cost = probe.cost or {}
    return Load(
        flops=cost["flops"],
        activation_bytes=cost["activation_bytes"],
        layers=probe.candidate.architecture.layers,
        batch_size=probe.candidate.recipe.batch_size,
    )


def pace_of(parts: Opened, probes: Sequence[Probe], box: Box) -> Pace | None:
    """What timing some of the counted candidates tells; None if none can be timed quickly.

    Args:
        parts: The study.
        probes: Candidates that count as usual, the first of which is timed first.
        box: How long it may take; a network that would take longer is passed over.
    """
    place = place_of(parts.config)
    timed: list[Timed] = []
    spent_each: list[float] = []
    for probe in _spread(probes):
        load = load_of(probe)
        if not _fits_memory(load) or len(timed) == MOST_TIMED:
            continue
        if timed:
            # Building, warming up and so on, as a multiple of the miniature epoch itself.
            times = [_epoch_s(entry.load, entry.example_s) for entry in timed]
            dearer = max(spent / epoch for spent, epoch in zip(spent_each, times, strict=True))
            foretold = _epoch_s(load, learnt(timed).example_s(load)) * dearer
            if foretold * CARE > box.left_s:
                continue
        elif SLOWEST * load.flops * load.batch_size > max(box.left_s, ONE_S):
            continue
        try:
            seen = miniature(
                probe.candidate,
                parts.dataset,
                parts.config.data_spec(),
                place,
                batches=_batches(load),
            )
        except Exception as error:  # noqa: BLE001 - its trial will tell the user; here others are timed
            log.debug("not timed: %s", error)
            continue
        timed.append(Timed(load=load, example_s=seen.example_s))
        spent_each.append(seen.spent_s)
    return learnt(timed) if timed else None


def _batches(load: Load) -> int:
    return max(FEWEST, min(MOST, int(ENOUGH_FLOPS / (load.flops * load.batch_size + 1))))


def _epoch_s(load: Load, example_s: float) -> float:
    """Time of a miniature epoch."""
    return _batches(load) * load.batch_size * example_s


def place_of(config: StudyConfig) -> Place:
    """Where the study's trials train."""
    decided = with_gpu_decided(config).resources
    share = min(1.0, decided.gpu or 0.0)
    return Place(
        device="cuda" if share else "cpu", threads=max(1, int(decided.cpu)), gpu_share=share
    )


def slots_of(config: StudyConfig) -> int:
    """Trials at a time on this machine."""
    if config.engine.name == "in_process":
        return 1
    from orchestrator.engines.ray_tune import cluster  # noqa: PLC0415 - loads ray only to connect

    decided = with_gpu_decided(config).resources
    gpus = 0
    if decided.gpu:
        import torch  # noqa: PLC0415 - asked only where there is a GPU

        gpus = torch.cuda.device_count()
    node = {"CPU": float(usable_cores()), "GPU": float(gpus)}
    return cluster.slots_of(node, cpu=decided.cpu, gpu=decided.gpu or 0.0)


def _spread(probes: Sequence[Probe]) -> Iterable[Probe]:
    """The first one, then the others by FLOPs: the middle, the quarters, and so on."""
    if not probes:
        return
    yield probes[0]
    ranked = sorted(probes[1:], key=lambda probe: load_of(probe).flops)
    taken = set()
    for parts in (2, 4, 8, 16, 32):
        for part in range(1, parts):
            index = len(ranked) * part // parts
            if index not in taken and index < len(ranked):
                taken.add(index)
                yield ranked[index]


def _fits_memory(load: Load) -> bool:
    """Whether training it here takes but a fraction of the memory that is free."""
    wanted = _COPIES * load.activation_bytes * load.batch_size
    return wanted < available_bytes() / _MEMORY_SHARE
