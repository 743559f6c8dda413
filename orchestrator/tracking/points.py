"""Every point of many runs' metrics, a hundred runs an answer.

MLflow's client asks run by run and metric by metric, which takes minutes for a thousand trials.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.rest_utils import http_request, verify_rest_response

RUNS_A_CALL = 100
POINTS_A_CALL = 25_000
"""What one answer of MLflow 3.17.2 holds at most."""
_ENDPOINT = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"

Points = Mapping[str, Mapping[str, Counter[tuple[int, float]]]]
"""By run and by metric: each step and value, and how often it is stored."""


def points_of(client: MlflowClient, runs: Sequence[Run]) -> Points:
    """Every point of every metric of the runs.

    Raises:
        MlflowException: The store did not answer.
    """
    having: defaultdict[str, list[str]] = defaultdict(list)
    for run in runs:
        for name in run.data.metrics:
            having[name].append(run.info.run_id)
    found: defaultdict[str, defaultdict[str, Counter[tuple[int, float]]]]
    found = defaultdict(lambda: defaultdict(Counter))
    for name, run_ids in having.items():
        for start in range(0, len(run_ids), RUNS_A_CALL):
            for point in _asked(client, run_ids[start : start + RUNS_A_CALL], name):
                found[point["run_id"]][name][int(point["step"]), float(point["value"])] += 1
    return found


def _asked(client: MlflowClient, run_ids: Sequence[str], name: str) -> Iterator[dict[str, Any]]:
    """All points of one metric; an answer that is full is asked for again in parts."""
    answer = _answer(client, run_ids, name)
    if len(answer) < POINTS_A_CALL:
        yield from answer
    elif len(run_ids) > 1:
        middle = len(run_ids) // 2
        yield from _asked(client, run_ids[:middle], name)
        yield from _asked(client, run_ids[middle:], name)
    else:
        for point in client.get_metric_history(run_ids[0], name):
            yield {"run_id": run_ids[0], "step": point.step, "value": point.value}


def _answer(client: MlflowClient, run_ids: Sequence[str], name: str) -> list[dict[str, Any]]:
    # MLflow 3.17.2 has this on its store and on its server, and not on its client.
    store = client._tracking_client.store  # noqa: SLF001
    if hasattr(store, "get_metric_history_bulk"):
        held = store.get_metric_history_bulk(run_ids, name, POINTS_A_CALL)
        return [point.to_dict() for point in held]
    asked = {"run_id": list(run_ids), "metric_key": name, "max_results": POINTS_A_CALL}
    answer = http_request(store.get_host_creds(), _ENDPOINT, "GET", params=asked)  # type: ignore[no-untyped-call]
    return list(verify_rest_response(answer, _ENDPOINT).json()["metrics"])
