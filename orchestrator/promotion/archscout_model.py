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

# B batch, C channels, H height, W width, K classes

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
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with _bundled_code(files):
            self._inputs = importlib.import_module("archscout_preprocessing")
            network = _network(self.facts)
        self.preprocessing = self._inputs.Preprocessing.from_dict(self.facts["preprocessing"])
        network.load_state_dict(safetensors.torch.load(files["weights.safetensors"]))
        self.network = network.to(self.device).to(memory_format=torch.channels_last).eval()

    # Of other type hints MLflow makes a schema of its own, and of none it complains.
    def predict(
        self,
        context: Any,  # noqa: ARG002 - MLflow's signature
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,  # noqa: ARG002 - as above
    ) -> pd.DataFrame:
        """Label and probability of each class for a batch of images.

        Args:
            context: MLflow's; not used.
            model_input: (N, H, W), (N, H, W, C) or (N, C, H, W) numbers.
            params: None are known.

        Raises:
            ValueError: The images are of another shape, or hold what is no number.
        """
        values = np.asarray(model_input)
        return self.answer(self._inputs.prepare_arrays(values, self.preprocessing))

    def answer(self, pixels_BCHW: NDArray[np.uint8]) -> pd.DataFrame:
        """The same for images that are prepared as the network takes them."""
        logits_BK = self._logits(pixels_BCHW)
        probabilities_BK = torch.softmax(logits_BK.double(), dim=1).numpy()
        labels = [self.class_names[index] for index in logits_BK.argmax(dim=1).tolist()]
        columns = {
            f"probability_{name}": probabilities_BK[:, index]
            for index, name in enumerate(self.class_names)
        }
        return pd.DataFrame({"label": labels, **columns})

    def prepare_image(self, image: Any) -> NDArray[np.uint8]:
        """A Pillow image as the network takes it."""
        pixels: NDArray[np.uint8] = self._inputs.prepare(image, self.preprocessing)
        return pixels

    def prepare_arrays(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Images in an array as the network takes them."""
        pixels: NDArray[np.uint8] = self._inputs.prepare_arrays(values, self.preprocessing)
        return pixels

    def _logits(self, pixels_BCHW: NDArray[np.uint8]) -> Tensor:
        parts = [torch.empty(0, len(self.class_names))]
        with torch.inference_mode(), self._precision():
            for start in range(0, len(pixels_BCHW), BATCH):
                pixels = torch.from_numpy(np.array(pixels_BCHW[start : start + BATCH]))
                inputs = {"image": self._normalised(pixels.to(self.device))}
                parts.append(self.network(inputs).logits_BK.float().cpu())
        return torch.cat(parts)

    def _normalised(self, pixels_BCHW: Tensor) -> Tensor:
        """Mean 0 and deviation 1 over the training part, in the same operations as there."""
        moments = self.facts["normalisation"]["image"]
        scale_C = torch.tensor([1 / value for value in moments["deviation"]])
        shift_C = torch.tensor(moments["mean"]) * scale_C
        values = pixels_BCHW.contiguous(memory_format=torch.channels_last).to(torch.float32)
        return values.mul_(scale_C.view(1, -1, 1, 1).to(self.device)).sub_(
            shift_C.view(1, -1, 1, 1).to(self.device)
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
        task(inputs=shapes, num_classes=len(facts["class_names"]))
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
