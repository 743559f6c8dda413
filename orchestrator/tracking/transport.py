"""Retries and timeouts of MLflow's HTTP requests.

MLflow 3.17.2 retries every request whose response is lost, including one that created a run, which
leaves two runs. It gives file uploads the timeout of a look-up, and tries to connect to a database
for 100 s.
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
"""Suffixes of idempotent POST endpoints."""
_FILES = "/mlflow-artifacts/"
_CONNECT_ATTEMPTS = 5
"""Attempts to connect to a database, within 3 s."""

_LIMITS = (MLFLOW_HTTP_REQUEST_TIMEOUT, MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT)

_Request = Callable[..., Any]


def use_safe_requests() -> None:
    """Let MLflow's client retry idempotent requests only, and give files their own timeout."""
    database.MAX_RETRY_COUNT = _CONNECT_ATTEMPTS
    for module in (rest_utils, http_artifact_repo):
        if not hasattr(module.http_request, "__wrapped__"):
            module.http_request = _with_safe_retries(module.http_request)  # type: ignore[attr-defined]


def is_idempotent(method: str, endpoint: str) -> bool:
    """Return whether a request may be retried if its response is lost."""
    return method.upper() != "POST" or endpoint.endswith(_IDEMPOTENT)


def _with_safe_retries(request: _Request) -> _Request:
    @functools.wraps(request)
    def send(host_creds: Any, endpoint: str, method: str, *args: Any, **kwargs: Any) -> Any:
        if not is_idempotent(method, endpoint):
            kwargs["max_retries"] = 0
        try:
            if _FILES in f"{host_creds.host}{endpoint}":
                kwargs.setdefault("timeout", max(map(_seconds, _LIMITS)))
            return request(host_creds, endpoint, method, *args, **kwargs)
        except ValueError as error:  # an environment variable that is not a number
            raise MlflowException(str(error)) from error

    return send


def _seconds(limit: Any) -> int:
    return limit.get() or 0
