"""Registered models: load one by name and alias, and predict."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from orchestrator.api.tables import definition_list
from orchestrator.commands import predict
from orchestrator.home import Home
from orchestrator.promotion.inputs import batches, check_range, expand
from workers.data.checks import DataError

if TYPE_CHECKING:
    from orchestrator.promotion.loading import LoadedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A registered model whose files were verified against the ledger's digests.

    Examples:
        >>> load_model("digits@champion").predict(images)["label"]
    """

    name: str
    """Name in the registry."""
    version: int
    """Version in the registry."""
    class_names: tuple[str, ...]
    """Classes in the order of the probabilities; empty for a regression model."""
    value_names: tuple[str, ...]
    """Names of the regression targets."""
    _loaded: "LoadedModel" = field(repr=False)

    def predict(self, examples: Any) -> pd.DataFrame:
        """Predict a batch.

        Args:
            examples: An array, images (N, H, W), (N, H, W, C) or (N, C, H, W) in the units of the
                training data or vectors (N, F); or a path or list of paths of image files, arrays
                and folders.

        Returns:
            One row an example: `label` and `probability_CLASS` where there are classes,
            `value_NAME` where there are regression targets; from paths also `file`, and `index`
            in a file of several examples.

        Raises:
            DataError: A file or an array cannot be used.
        """
        if _is_path(examples):
            return self._of_files([os.fspath(examples)])
        if isinstance(examples, Sequence) and {*map(_is_path, examples)} == {True}:
            return self._of_files([os.fspath(each) for each in examples])
        values = np.asarray(examples)
        try:
            check_range(values, self._loaded.shim.facts["preprocessing"])
            prepared = self._loaded.shim.prepare_arrays(values)
        except ValueError as error:
            raise DataError(f"the examples cannot be used: {error}") from error
        frame: pd.DataFrame = self._loaded.shim.answer(prepared)
        return frame

    def _of_files(self, paths: list[str]) -> pd.DataFrame:
        files, _ = expand(paths)
        failed: list[str] = []
        frames = []
        for batch in batches(files, self._loaded.shim, failed):
            frame = self._loaded.shim.answer(batch.examples)
            frame.insert(0, "file", [file for file, _ in batch.names])
            frame.insert(1, "index", [index for _, index in batch.names])
            frames.append(frame)
        if failed:
            raise DataError("\n".join(failed))
        return pd.concat(frames, ignore_index=True)

    def _repr_html_(self) -> str:
        entries = {
            "version": str(self.version),
            "classes": ", ".join(self.class_names),
            "targets": ", ".join(self.value_names),
        }
        return definition_list(f"Model {self.name}", {k: v for k, v in entries.items() if v})


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def load_model(reference: str, *, home: str | Path | None = None) -> Model:
    """Load a registered model after verifying its files.

    Args:
        reference: MODEL@ALIAS, such as `digits@champion`.
        home: Folder of the stores; by default `ARCHSCOUT_HOME` or `./mlruns`.

    Raises:
        CommandError: There is no such model or alias.
        PromotionRefusedError: A file is not the one that was promoted.
    """
    place = Home.find(None if home is None else str(home), os.environ)
    loaded = predict.open_model(*predict.model_and_alias(reference), place)
    return Model(
        name=loaded.name,
        version=loaded.version,
        class_names=loaded.class_names,
        value_names=loaded.value_names,
        _loaded=loaded,
    )
