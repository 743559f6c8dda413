"""How MLflow's client sends HTTP requests: which ones it may repeat, and how long a file may take.

MLflow 3.17.2 repeats every request whose answer is lost, also one that created a run, and then
there are two. It gives the upload of a file the same time as a look-up, and tries to connect to a
database for 100 s.
"""

import functools
from collections.abc import Callable
from typing import Any

from mlflow.environment_variables import (
    MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)
from mlflow.exceptions import MlflowException
from mlflow.store.artifact import http_artifact_repo
from mlflow.store.db import utils as database
from mlflow.utils import rest_utils

_IDEMPOTENT = (
    "/search",
    "/update",
    "/log-batch",
    "/log-inputs",
    "/set-tag",
    "/set-experiment-tag",
    "/alias",
)
"""Endings of POST endpoints that do the same when they are called twice."""
_FILES = "/mlflow-artifacts/"
_CONNECTS = 5
"""Tries to connect to a database, within 3 s."""

_LIMITS = (MLFLOW_HTTP_REQUEST_TIMEOUT, MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT)

_Request = Callable[..., Any]


def use_safe_requests() -> None:
    """Let MLflow's client repeat idempotent requests only, and give files a limit of their own."""
    database.MAX_RETRY_COUNT = _CONNECTS
    for module in (rest_utils, http_artifact_repo):
        if not hasattr(module.http_request, "__wrapped__"):
            module.http_request = _safe(module.http_request)  # type: ignore[attr-defined]


def is_idempotent(method: str, endpoint: str) -> bool:
    """Whether a request may be repeated when its answer is lost."""
    return method.upper() != "POST" or endpoint.endswith(_IDEMPOTENT)


def _safe(request: _Request) -> _Request:
    @functools.wraps(request)
    def send(host_creds: Any, endpoint: str, method: str, *given: Any, **named: Any) -> Any:
        if not is_idempotent(method, endpoint):
            named["max_retries"] = 0
        try:
            if _FILES in f"{host_creds.host}{endpoint}":
                named.setdefault("timeout", max(map(_seconds, _LIMITS)))
            return request(host_creds, endpoint, method, *given, **named)
        except ValueError as unreadable:  # a setting in the environment that is no number
            raise MlflowException(str(unreadable)) from unreadable

    return send


def _seconds(limit: Any) -> int:
    return limit.get() or 0
