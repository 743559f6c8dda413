"""The one code file of every model that archscout registers: proves its files, then answers.

Needs what requirements.txt names and the files beside it; archscout need not be installed, and
where it is, its code is not used. MLflow runs this file to load the model ("models from code").
"""

import hashlib
import importlib
import importlib.machinery
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import safetensors.torch
import torch
from mlflow.pyfunc.model import PythonModel
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

# B batch, C channels, K classes, V numbers

CONTENTS = "artifacts/model/"
"""Where our own files lie in the model's folder."""
MANIFEST = "manifest.json"
BATCH = 256
"""Examples at a time, as in training: sums of another length are rounded otherwise."""


class ArchscoutModel(PythonModel):
    """A network found by a search, with what it takes and what it answers."""

    def load_context(self, context: Any) -> None:
        """Prove every file, then build the network.

        Raises:
            ValueError: A file is missing or is not the one that was promoted.
        """
        files = _proved(Path(context.artifacts["model"]).parents[1])
        self.facts = json.loads(files["model.json"])
        self.class_names: list[str] = self.facts["class_names"]
        self.value_names: list[str] = self.facts["value_names"]
        (self.stream,) = self.facts["inputs"]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with _bundled_code(files):
            self._inputs = importlib.import_module("archscout_preprocessing")
            network = _network(self.facts)
        prepared = self.facts["preprocessing"]
        self.preprocessing = prepared and self._inputs.Preprocessing.from_dict(prepared)
        network.load_state_dict(safetensors.torch.load(files["weights.safetensors"]))
        self.network = network.to(self.device).to(memory_format=torch.channels_last).eval()

    # Of other type hints MLflow makes a schema of its own, and of none it complains.
    def predict(
        self,
        context: Any,  # noqa: ARG002 - MLflow's signature
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,  # noqa: ARG002 - as above
    ) -> pd.DataFrame:
        """What the network makes of a batch of examples.

        Args:
            context: MLflow's; not used.
            model_input: Images (N, H, W), (N, H, W, C) or (N, C, H, W), or vectors (N, F).
            params: None are known.

        Raises:
            ValueError: The examples are of another shape, or hold what is no number.
        """
        return self.answer(self.prepare_arrays(np.asarray(model_input)))

    def answer(self, prepared: NDArray[Any]) -> pd.DataFrame:
        """The same for examples that are prepared as the network takes them.

        Label and probability of each class, where there are classes; then each number.
        """
        logits_BK, values_BV = self._outputs(prepared)
        columns: dict[str, Any] = {}
        if self.class_names:
            probabilities_BK = torch.softmax(logits_BK.double(), dim=1).numpy()
            indices = logits_BK.argmax(dim=1).tolist()
            columns["label"] = [self.class_names[index] for index in indices]
            for index, name in enumerate(self.class_names):
                columns[f"probability_{name}"] = probabilities_BK[:, index]
        for index, name in enumerate(self.value_names):
            columns[f"value_{name}"] = values_BV[:, index].double().numpy()
        return pd.DataFrame(columns)

    def prepare_image(self, image: Any) -> NDArray[Any]:
        """A Pillow image as the network takes it.

        Raises:
            ValueError: The network takes no images.
        """
        if self.preprocessing is None:
            (numbers,) = self.facts["inputs"][self.stream]
            raise ValueError(f"the model takes {numbers} numbers an example, no images")
        pixels: NDArray[Any] = self._inputs.prepare(image, self.preprocessing)
        return pixels

    def prepare_arrays(self, values: NDArray[Any]) -> NDArray[Any]:
        """Examples in an array as the network takes them."""
        if self.preprocessing is None:
            (numbers,) = self.facts["inputs"][self.stream]
            prepared: NDArray[Any] = self._inputs.prepare_vectors(values, numbers)
        else:
            prepared = self._inputs.prepare_arrays(values, self.preprocessing)
        return prepared

    def _outputs(self, prepared: NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Scores of the classes and numbers in the data's units."""
        scores = [torch.empty(0, len(self.class_names))]
        values = [torch.empty(0, len(self.value_names))]
        with torch.inference_mode(), self._precision():
            for start in range(0, len(prepared), BATCH):
                examples = torch.from_numpy(np.array(prepared[start : start + BATCH]))
                inputs = {self.stream: self._normalised(examples.to(self.device))}
                output = self.network(inputs)
                if self.class_names:
                    scores.append(output.logits_BK.float().cpu())
                if self.value_names:
                    values.append(self._in_units(output.values_BV.float().cpu()))
        return torch.cat(scores), torch.cat(values)

    def _in_units(self, values_BV: Tensor) -> Tensor:
        """Numbers as the data has them, in the same operations as in training."""
        moments = self.facts["normalisation"]["values"]
        return values_BV * torch.tensor(moments["deviation"]) + torch.tensor(moments["mean"])

    def _normalised(self, examples: Tensor) -> Tensor:
        """Mean 0 and deviation 1 over the training part, in the same operations as there."""
        moments = self.facts["normalisation"][self.stream]
        scale_C = torch.tensor([1 / value for value in moments["deviation"]])
        shift_C = torch.tensor(moments["mean"]) * scale_C
        shape = (1, -1, *(1,) * (examples.ndim - 2))
        if examples.ndim == 4:
            examples = examples.contiguous(memory_format=torch.channels_last)
        values = examples.to(torch.float32, copy=True)
        return values.mul_(scale_C.view(shape).to(self.device)).sub_(
            shift_C.view(shape).to(self.device)
        )

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """Computes in the numbers in which the trial was judged."""
        with ExitStack() as stack:
            if self.facts["precision"] != "float32":
                dtype = getattr(torch, self.facts["precision"])
                stack.enter_context(torch.autocast(self.device.type, dtype=dtype))
                if self.device.type == "cpu":
                    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield


def _proved(root: Path) -> dict[str, bytes]:
    """Our own files by name, each with the bytes that the manifest promises."""
    manifest = json.loads((root / MANIFEST).read_bytes())
    proved = {}
    for name, promised in manifest["files"].items():
        path = root / name
        if not path.is_file():
            raise ValueError(f"{name} is missing from the model; promote it again")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != promised["sha256"]:
            raise ValueError(f"{name} is not what was promoted; promote the model again")
        if name.startswith(CONTENTS):
            proved[name.removeprefix(CONTENTS)] = content
    return proved


def _network(facts: Mapping[str, Any]) -> Any:
    """The network without weights, by the bundled code."""
    if facts["user_code"] is not None:
        importlib.import_module("archscout_user_code")
    architecture = importlib.import_module("search_spaces.architecture").Architecture
    task = importlib.import_module("search_spaces.task").Task
    shapes = {name: tuple(shape) for name, shape in facts["inputs"].items()}
    return architecture.from_dict(facts["candidate"]["architecture"]).build(
        task(
            inputs=shapes,
            num_classes=len(facts["class_names"]),
            num_values=len(facts["value_names"]),
        )
    )


class _Sources:
    """Finds and runs the bundled modules, from the very bytes that were proved."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._sources: dict[str, tuple[bytes, bool]] = {}
        for name, content in files.items():
            if name.startswith("code/") and name.endswith(".py"):
                module = name.removeprefix("code/").removesuffix(".py").replace("/", ".")
                package = module.endswith(".__init__")
                self._sources[module.removesuffix(".__init__")] = (content, package)
        for module in list(self._sources):
            for end, letter in enumerate(module):
                if letter == ".":  # a folder may be a package without saying so
                    self._sources.setdefault(module[:end], (b"", True))

    def owns(self, name: str) -> bool:
        """Whether a module is one of ours by its top name."""
        return name.partition(".")[0] in {module.partition(".")[0] for module in self._sources}

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Python's question to a finder."""
        if name not in self._sources:
            return None
        loader: Any = self
        _, package = self._sources[name]
        return importlib.machinery.ModuleSpec(name, loader, origin=name, is_package=package)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """A plain module will do."""

    def exec_module(self, module: ModuleType) -> None:
        """Runs a module's source."""
        source, _ = self._sources[module.__name__]
        exec(compile(source, f"<model>/{module.__name__}", "exec"), vars(module))  # noqa: S102


@contextmanager
def _bundled_code(files: Mapping[str, bytes]) -> Iterator[None]:
    """Imports come from the bundle, even where archscout is loaded, which is put back after."""
    sources: Any = _Sources(files)
    before = {name: module for name, module in sys.modules.items() if sources.owns(name)}
    for name in before:
        del sys.modules[name]
    sys.meta_path.insert(0, sources)
    try:
        yield
    finally:
        sys.meta_path.remove(sources)
        for name in [name for name in sys.modules if sources.owns(name)]:
            del sys.modules[name]
        sys.modules.update(before)


mlflow.models.set_model(ArchscoutModel())
