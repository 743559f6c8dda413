"""The example notebook runs from its first cell to its last, and shows what it says."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[3] / "examples" / "quickstart.ipynb"


@pytest.mark.examples
@pytest.mark.mlflow
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Unclosed context")  # of pyzmq, as the kernel's client ends
def test_the_example_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pages = [
        "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)
        for cell in cells
    ]
    created, run, board, trial = pages[:4]
    assert "Study tiny" in created
    assert "<progress value='1.000'>" in run
    assert "val_accuracy" in board
    assert "<svg" in trial
    assert "Model digits" in pages[6]
    accuracy = float(cells[-1].outputs[-1]["data"]["text/plain"].strip("np.float64()"))
    assert accuracy > 0.3
