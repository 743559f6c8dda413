"""`python -m workers candidate.json`: train one candidate and print one line per epoch.

Needs no study: to examine a single network, or to reproduce one from a ledger.
"""

import argparse
import json
import sys
from pathlib import Path

from pydantic import ValidationError

from workers.budget import Budget
from workers.data import DataError, DataSpec, load
from workers.failures import classify
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement
from workers.run_job import run_job


def main(arguments: list[str] | None = None) -> int:
    """Train the candidate that the command line names.

    Returns:
        Exit code: 0 on success, 2 for invalid input or a failed training.
    """
    options = _parser().parse_args(arguments)
    try:
        candidate = json.loads(options.candidate.read_text(encoding="utf-8"))
        if not isinstance(candidate, dict):
            raise DataError(f"{options.candidate}: a candidate must be a JSON object")
        spec = DataSpec(source=options.data, path=options.path, limit=options.limit)
        dataset = load(spec)
        job = TrainingJob(
            key=AttemptKey(trial_uid="0" * 32, number=1, fence=""),
            trial_number=0,
            candidate=candidate,
            data=spec,
            budget=Budget(maximum=options.epochs),
            seed=options.seed,
            threads=options.threads,
            device=options.device,
        )
    except ValidationError as error:
        first = error.errors()[0]
        return _fail(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 2)
    except (OSError, ValueError) as error:
        return _fail(str(error), 2)
    try:
        for step in run_job(job, dataset):
            if isinstance(step, Measurement):
                _print_line(step)
    except Exception as error:  # noqa: BLE001 - any failure is classified and reported
        failure = classify(error)
        return _fail(f"{failure.kind}: {failure.message}", 2)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workers", description="Train one candidate and print one line per epoch."
    )
    parser.add_argument("candidate", type=Path, help="file with the candidate's JSON form")
    parser.add_argument("--data", default="digits", help="data source (default: digits)")
    parser.add_argument("--path", help="file or folder, for sources that read one")
    parser.add_argument("--limit", type=int, help="maximum number of examples")
    parser.add_argument("--epochs", type=int, default=3, help="epochs to train (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    return parser


def _print_line(measurement: Measurement) -> None:
    metrics = "  ".join(f"{name} {value:.4f}" for name, value in measurement.metrics.items())
    sys.stdout.write(f"epoch {measurement.fidelity}  {metrics}  {measurement.elapsed_s:.1f} s\n")
    sys.stdout.flush()


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"{message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
