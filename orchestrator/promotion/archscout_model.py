"""Code file of every registered model: verifies the model's files, then predicts.

Requires the packages of requirements.txt and the model's files; an installed archscout is neither
required nor used. MLflow runs this file to load the model ("models from code").
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

# B batch, C channels, K classes, V regression targets

CONTENTS = "artifacts/model/"
"""Folder of our own files in the model."""
MANIFEST = "manifest.json"
BATCH = 256
"""Examples per batch, as in training: sums of another length are rounded differently."""


class ArchscoutModel(PythonModel):
    """Network found by a search, with its preprocessing and its outputs."""

    def load_context(self, context: Any) -> None:
        """Verify every file, then build the network.

        Raises:
            ValueError: A file is missing or differs from the promoted one.
        """
        files = _verified(Path(context.artifacts["model"]).parents[1])
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

    # MLflow turns other type hints into a schema of its own, and warns if there are none.
    def predict(
        self,
        context: Any,  # noqa: ARG002 - MLflow's signature
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,  # noqa: ARG002 - as above
    ) -> pd.DataFrame:
        """Return predictions for a batch of examples, one row each.

        Args:
            context: MLflow's; not used.
            model_input: Images (N, H, W), (N, H, W, C) or (N, C, H, W), or vectors (N, F).
            params: Not used.

        Raises:
            ValueError: The examples have another shape, or contain NaN or infinity.
        """
        return self.answer(self.prepare_arrays(np.asarray(model_input)))

    def answer(self, prepared: NDArray[Any]) -> pd.DataFrame:
        """Return predictions for preprocessed examples.

        Columns: `label` and `probability_CLASS` for a classifier, then `value_NAME` for each
        regression target.
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
        """Return a Pillow image, preprocessed for the network.

        Raises:
            ValueError: The network's inputs are not images.
        """
        if self.preprocessing is None:
            (numbers,) = self.facts["inputs"][self.stream]
            raise ValueError(f"the model takes vectors of {numbers} numbers, not images")
        pixels: NDArray[Any] = self._inputs.prepare(image, self.preprocessing)
        return pixels

    def prepare_arrays(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return examples in an array, preprocessed for the network."""
        if self.preprocessing is None:
            (numbers,) = self.facts["inputs"][self.stream]
            prepared: NDArray[Any] = self._inputs.prepare_vectors(values, numbers)
        else:
            prepared = self._inputs.prepare_arrays(values, self.preprocessing)
        return prepared

    def _outputs(self, prepared: NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Return class logits (N, K), and predictions (N, V) in the data's units."""
        scores = [torch.empty(0, len(self.class_names))]
        values = [torch.empty(0, len(self.value_names))]
        with torch.inference_mode(), self._precision():
            for start in range(0, len(prepared), BATCH):
                examples = torch.from_numpy(np.array(prepared[start : start + BATCH]))
                inputs = {self.stream: self._normalize(examples.to(self.device))}
                output = self.network(inputs)
                if self.class_names:
                    scores.append(output.logits_BK.float().cpu())
                if self.value_names:
                    values.append(self._denormalize(output.values_BV.float().cpu()))
        return torch.cat(scores), torch.cat(values)

    def _denormalize(self, values_BV: Tensor) -> Tensor:
        """Return predictions in the data's units, with the same operations as in training."""
        moments = self.facts["normalisation"]["values"]
        return values_BV * torch.tensor(moments["deviation"]) + torch.tensor(moments["mean"])

    def _normalize(self, examples: Tensor) -> Tensor:
        """Return normalized inputs, with the same operations as in training."""
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
        """Compute in the precision of the trial's evaluation."""
        with ExitStack() as stack:
            if self.facts["precision"] != "float32":
                dtype = getattr(torch, self.facts["precision"])
                stack.enter_context(torch.autocast(self.device.type, dtype=dtype))
                if self.device.type == "cpu":
                    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield


def _verified(root: Path) -> dict[str, bytes]:
    """Return our own files by name, each verified against the manifest."""
    manifest = json.loads((root / MANIFEST).read_bytes())
    verified = {}
    for name, expected in manifest["files"].items():
        path = root / name
        if not path.is_file():
            raise ValueError(f"{name} is missing from the model; promote it again")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != expected["sha256"]:
            raise ValueError(f"{name} is not what was promoted; promote the model again")
        if name.startswith(CONTENTS):
            verified[name.removeprefix(CONTENTS)] = content
    return verified


def _network(facts: Mapping[str, Any]) -> Any:
    """Return the network without weights, built by the bundled code."""
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
    """Finder and loader of the bundled modules, from the verified bytes."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._sources: dict[str, tuple[bytes, bool]] = {}
        for name, content in files.items():
            if name.startswith("code/") and name.endswith(".py"):
                module = name.removeprefix("code/").removesuffix(".py").replace("/", ".")
                package = module.endswith(".__init__")
                self._sources[module.removesuffix(".__init__")] = (content, package)
        for module in list(self._sources):
            for end, letter in enumerate(module):
                if letter == ".":  # a folder may be a namespace package
                    self._sources.setdefault(module[:end], (b"", True))

    def owns(self, name: str) -> bool:
        """Return whether a module belongs to the bundle, by its top-level name."""
        return name.partition(".")[0] in {module.partition(".")[0] for module in self._sources}

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a bundled module (protocol of `sys.meta_path`)."""
        if name not in self._sources:
            return None
        loader: Any = self
        _, package = self._sources[name]
        return importlib.machinery.ModuleSpec(name, loader, origin=name, is_package=package)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Use the default module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's source."""
        source, _ = self._sources[module.__name__]
        exec(compile(source, f"<model>/{module.__name__}", "exec"), vars(module))  # noqa: S102


@contextmanager
def _bundled_code(files: Mapping[str, bytes]) -> Iterator[None]:
    """Import from the bundle, even if archscout is loaded; its modules are restored afterwards."""
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
