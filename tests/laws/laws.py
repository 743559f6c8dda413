"""The laws of candidates, checked on random candidates of every built-in space.

    LAWS_SAMPLES=10000 python tests/laws/laws.py [--processes 2] [--kept laws/chunks.jsonl]

`make laws` runs this; the tests try the same laws on fewer candidates. Each finished chunk is a
line of the kept file, and is not done again while the code that it speaks of is the same, so a run
that was cut off goes on where it was. Ends with 1 where a law is broken.

A new space needs nothing here, unless it reads something else than one image: then its tasks go
into `TASKS`.
"""

import argparse
import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from cuda_autocast import CudaAutocast
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

import search_spaces
from search_spaces.architecture import Network
from search_spaces.candidate import Candidate
from search_spaces.canonical import canonical
from search_spaces.catalog import catalog, load
from search_spaces.cost import Counting, cost
from search_spaces.domains.suggester import RandomSuggester, ReplaySuggester
from search_spaces.space import SearchSpace
from search_spaces.task import Task

IMAGES = [
    Task(inputs={"image": shape}, num_classes=10)
    for shape in ((1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 48))
]
# Sequences are short here: on the meta device a recurrent cell goes step by step.
TASKS: dict[str, list[Task]] = {
    "sequence": [
        Task(inputs={"series": (5, 3)}, num_classes=0, num_values=2),
        Task(inputs={"series": (4, 1)}, num_classes=3),
    ],
    "text": [Task(inputs={"text": (4,)}, num_classes=4)],
    "vector": [
        Task(inputs={"vector": (8,)}, num_classes=3, num_values=2),
        Task(inputs={"vector": (3,)}, num_classes=0, num_values=1),
    ],
    "pendulum": [Task(inputs={"vector": (2,)}, num_classes=0, num_values=3)],
    "image_text": [Task(inputs={"image": (3, 9, 8), "text": (4,)}, num_classes=2, num_values=1)],
    "image_sound": [Task(inputs={"image": (1, 8, 8), "sound": (1, 16, 12)}, num_classes=5)],
}
"""By the name of the space, what its candidates are built for in turn; images where not said."""
NUM_COUNTED = 20
"""Of so many candidates of a space the FLOPs are counted twice."""
CHUNK = 250
BATCH = 2


def num_samples() -> int:
    """How many candidates of every space the laws are tried on."""
    return int(os.environ.get("LAWS_SAMPLES", "50"))


def task_of(space: str, seed: int) -> Task:
    """What the candidate of this seed is built for."""
    tasks = TASKS.get(space, IMAGES)
    return tasks[seed % len(tasks)]


class Noting:
    """Random answers, and under which domain each name was asked for."""

    def __init__(self, seed: int) -> None:
        self.chance = RandomSuggester(seed)
        self.asked: dict[str, str] = {}

    def suggest_int(self, name: str, low: int, high: int, **rest: Any) -> int:
        self.asked[name] = f"int {low} {high} {sorted(rest.items())}"
        return self.chance.suggest_int(name, low, high, **rest)

    def suggest_float(self, name: str, low: float, high: float, **rest: Any) -> float:
        self.asked[name] = f"float {low} {high} {sorted(rest.items())}"
        return self.chance.suggest_float(name, low, high, **rest)

    def suggest_categorical(self, name: str, choices: Sequence[Any], **rest: Any) -> Any:
        self.asked[name] = f"categorical {list(choices)} {sorted(rest.items())}"
        return self.chance.suggest_categorical(name, choices, **rest)


@cache
def space_of(name: str) -> SearchSpace:
    return load(name)


def examine(name: str, seeds: range) -> dict[str, Any]:
    """Try every law on the candidates of these seeds.

    Raises:
        AssertionError: A law is broken; the message says by which candidate.
    """
    asked: dict[str, str] = {}
    encoded: dict[str, Mapping[str, Any]] = {}
    parameters = []
    for seed in seeds:
        noting = Noting(seed)
        candidate = space_of(name).resolve(noting)
        try:
            encoding_undoes_resolving(space_of(name), candidate, noting.chance.params)
            one_digest_has_one_meaning(encoded, candidate, noting.chance.params)
            one_name_has_one_domain(asked, noting.asked)
            plain_data_leads_back(candidate)
            task = task_of(name, seed)
            one_network_has_one_spelling(candidate, task)
            parameters.append(what_is_promised_comes_out(candidate, task))
            if seed < NUM_COUNTED:
                flops_are_counted_right(candidate, task)
        except Exception as error:
            raise AssertionError(f"{name}, seed {seed}, {candidate.describe()}: {error}") from error
    return {"asked": asked, "parameters": parameters}


def encoding_undoes_resolving(
    space: SearchSpace, candidate: Candidate, answered: Mapping[str, Any]
) -> None:
    params = space.encode(candidate)
    assert params == answered, f"answered {answered}, encoded {params}"
    replay = ReplaySuggester(params)
    assert space.resolve(replay) == candidate, f"{params} lead elsewhere"
    assert replay.unused() == (), f"unused: {replay.unused()}"


def one_name_has_one_domain(before: dict[str, str], now: Mapping[str, str]) -> None:
    for name, domain in now.items():
        known = before.setdefault(name, domain)
        assert known == domain, f"{name} is asked for as {known} and as {domain}"


def one_digest_has_one_meaning(
    before: dict[str, Mapping[str, Any]], candidate: Candidate, params: Mapping[str, Any]
) -> None:
    known = before.setdefault(candidate.digest, params)
    assert known == params, f"{known} and {params} share a digest"


def plain_data_leads_back(candidate: Candidate) -> None:
    written = json.dumps(candidate.to_dict())
    read = Candidate.from_dict(json.loads(written))
    assert read == candidate, f"{written} reads as another candidate"
    assert read.digest == candidate.digest, "the digest changed on the way"
    assert json.dumps(read.to_dict()) == written, "written again it reads differently"


def one_network_has_one_spelling(candidate: Candidate, task: Task) -> None:
    plain = canonical(candidate.architecture, task)
    assert canonical(plain, task) == plain, "the canonical form has another one"
    assert plain.walk(task)["head"] == candidate.architecture.walk(task)["head"]
    respelt = replace(candidate, architecture=plain)
    assert respelt.network_digest(task) == candidate.network_digest(task)


def what_is_promised_comes_out(candidate: Candidate, task: Task) -> int:
    """Every piece gives the shape it said, in low precision too; parameters are counted."""
    promised = candidate.architecture.walk(task)
    with torch.device("meta"):
        network = Network(candidate.architecture, task, auxiliary=task.num_classes > 0)
        inputs = {name: torch.empty(BATCH, *shape) for name, shape in task.inputs.items()}
    given: dict[str, tuple[int, ...]] = {}
    for name in promised:
        network.get_submodule(name).register_forward_hook(noting_shape(given, name))
    with torch.no_grad(), Counting(), CudaAutocast():
        output = network(inputs)
    for name, shape in promised.items():
        assert given[name] == (BATCH, *shape), f"{name} promises {shape}, gives {given[name][1:]}"
    scores = [tuple(auxiliary.shape) for auxiliary in output.auxiliary]
    heads = len(task.inputs) if task.num_classes else 0
    assert scores == [(BATCH, task.num_classes)] * heads, f"auxiliary scores {scores}"
    return sum(parameter.numel() for parameter in network.parameters())


def noting_shape(given: dict[str, tuple[int, ...]], name: str) -> Any:
    def note(module: nn.Module, args: object, output: Any) -> None:
        # A head gives a ModelOutput: what it promises are its scores and its numbers.
        if not isinstance(output, Tensor):
            parts = [part for part in (output.logits_BK, output.values_BV) if part.numel()]
            output = torch.cat(parts, dim=1)
        given[name] = tuple(output.shape)

    return note


def flops_are_counted_right(candidate: Candidate, task: Task) -> None:
    with ByHand() as counter:
        counted = cost(candidate.architecture, task)
    assert counted.flops * BATCH == counter.flops, f"{counted.flops * BATCH} or {counter.flops}?"


class ByHand(TorchFunctionMode):
    """Counts the multiply-adds, as two, of the calls that networks make: no torch formula helps."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in MULTIPLY_ADDS:
            self.flops += 2 * MULTIPLY_ADDS[func](*args, out=out)
        return out


def _of_convolution(_x: Tensor, weight: Tensor, *_: Any, out: Tensor) -> int:
    return out.numel() * weight[0].numel()


def _of_linear(x: Tensor, weight: Tensor, *_: Any, out: Tensor) -> int:
    return x.numel() * weight.shape[0]


def _of_product(left: Tensor, _right: Tensor, *, out: Tensor) -> int:
    return out.numel() * left.shape[-1]


def _of_attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, out: Tensor) -> int:
    return query.numel() * key.shape[-2] + out.numel() * value.shape[-2]


def _of_cell(x_BNC: Tensor, _state: Any, weights: Sequence[Tensor], *_: Any, out: Any) -> int:
    steps = x_BNC.shape[0] * x_BNC.shape[1]
    return steps * sum(weight.numel() for weight in weights if weight.dim() == 2)


MULTIPLY_ADDS: dict[Any, Any] = {
    torch.conv1d: _of_convolution,
    torch.conv2d: _of_convolution,
    functional.linear: _of_linear,
    torch.matmul: _of_product,
    Tensor.matmul: _of_product,
    Tensor.__matmul__: _of_product,
    functional.scaled_dot_product_attention: _of_attention,
    torch.lstm: _of_cell,
    torch.gru: _of_cell,
}


def fingerprint() -> str:
    """Of the code that the laws are tried on, and of the laws."""
    folder = Path(search_spaces.__file__).parent
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def examine_chunk(chunk: tuple[str, int, int]) -> dict[str, Any]:
    torch.set_num_threads(1)
    name, first, end = chunk
    began = time.process_time()
    try:
        found = examine(name, range(first, end))
    except AssertionError as error:
        found = {"broken": str(error)}
    return {"space": name, "first": first, "end": end, "cpu_s": time.process_time() - began} | found


def chunks(samples: int) -> list[tuple[str, int, int]]:
    starts = range(0, samples, CHUNK)
    return [(name, first, min(first + CHUNK, samples)) for first in starts for name in catalog()]


def results(samples: int, run: Any, kept: Path) -> Iterator[dict[str, Any]]:
    """Every chunk's finding; those that were missing come from `run`, a map, and are kept."""
    code = fingerprint()
    kept.parent.mkdir(parents=True, exist_ok=True)
    lines = kept.read_text().splitlines() if kept.exists() else []
    known = [json.loads(line) for line in lines if line.endswith("}")]
    wanted = set(chunks(samples))
    for found in known:
        key = found["space"], found["first"], found["end"]
        if found["code"] == code and key in wanted:
            wanted.discard(key)
            yield found
    todo = [chunk for chunk in chunks(samples) if chunk in wanted]
    for done, found in enumerate(run(examine_chunk, todo), start=1):
        with kept.open("a") as file:
            file.write(json.dumps(found | {"code": code}) + "\n")
        print(f"{done} of {len(todo)} chunks", file=sys.stderr, flush=True)
        yield found


def report(found: list[dict[str, Any]]) -> Iterator[str]:
    """A line a space, and what was broken."""
    for name in catalog():
        mine = [one for one in found if one["space"] == name]
        asked: dict[str, str] = {}
        for one in mine:
            try:
                one_name_has_one_domain(asked, one.get("asked", {}))
            except AssertionError as error:
                one["broken"] = str(error)
        sizes = [size for one in mine for size in one.get("parameters", [])] or [0]
        yield (
            f"{name}: {len(sizes)} candidates obey, {len(asked)} names of decisions, parameters "
            f"{min(sizes)} to {max(sizes)}, median {statistics.median(sizes):.0f}, "
            f"{sum(one['cpu_s'] for one in mine):.0f} s of processor"
        )
    yield from (f"BROKEN {one['broken']}" for one in found if "broken" in one)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kept", type=Path, default=Path("laws/chunks.jsonl"))
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        found = list(results(num_samples(), pool.map, options.kept))
    print(*report(found), sep="\n")
    return int(any("broken" in one for one in found))


if __name__ == "__main__":
    sys.exit(main())
