"""Whether a promoted model does on Fashion-MNIST's 10,000 test images what promote recorded.

Searches, promotes, and then asks the model by nothing but `mlflow.pyfunc.load_model`, in a process
and a folder that know nothing of archscout, about images read by lines of their own:

    python benchmarks/promoted_fashion.py [--home DIR] [--trials 1] [--epochs 3] [--limit 15000]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mlflow import MlflowClient

from orchestrator.cli import main as archscout

FOLDER = Path("/usr/share/datasets/fashion-mnist")

PLAIN = """
import gzip, json, sys
import mlflow.pyfunc, numpy as np

def idx(path, offset):
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rb") as file:
        return np.frombuffer(file.read(), np.uint8, offset=offset)

images = idx(sys.argv[1], 16).reshape(-1, 28, 28)
targets = idx(sys.argv[2], 8)
answers = mlflow.pyfunc.load_model("models:/fashion@champion").predict(images)
names = [c.removeprefix("probability_") for c in answers.columns if c != "label"]
right = sum(label == names[target] for label, target in zip(answers["label"], targets))
print(json.dumps({"images": len(images), "accuracy": right / len(images)}))
"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    parser.add_argument("--trials", default="1")
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--limit", default="15000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = (options.home or Path(scratch) / "home").absolute()
        words = ["search", "fashion", "--engine", "in_process", "--trials", options.trials]
        for setting in (f"budget.maximum={options.epochs}", f"data.limit={options.limit}"):
            words += ["--set", setting]
        started = time.monotonic()
        code = archscout(["--home", str(home), *words, "--quiet"])
        searched = time.monotonic()
        code = code or archscout(["--home", str(home), "promote", "fashion", "--model", "fashion"])
        if code:
            return code
        promoted = time.monotonic()
        found = asked_plainly(home, Path(scratch))
        recorded = recorded_accuracy(home)
        print(f"search {searched - started:.0f} s, promote {promoted - searched:.0f} s")
        print(f"plain mlflow.pyfunc on {found['images']} images: accuracy {found['accuracy']}")
        print(f"recorded by promote: {recorded}")
        return 0 if found["accuracy"] == recorded else 1


def asked_plainly(home: Path, scratch: Path) -> dict[str, float]:
    files = [next(iter(FOLDER.glob(f"t10k-{kind}*"))) for kind in ("images", "labels")]
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN, *map(str, files)],
        cwd=scratch,
        env={"PATH": os.environ["PATH"], "MLFLOW_DISABLE_TELEMETRY": "true", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def recorded_accuracy(home: Path) -> float:
    uri = f"sqlite:///{home / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    version = client.get_model_version_by_alias("fashion", "champion")
    return float(version.tags["archscout.test_accuracy"])


if __name__ == "__main__":
    sys.exit(main())
