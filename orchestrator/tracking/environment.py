"""Environment variables of our processes that load MLflow; loads nothing itself."""

import os
from collections.abc import Mapping

_DEFAULTS: Mapping[str, str] = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # MLflow's own limits (7 retries of 120 s) let a dead server hold one call for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "600",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Values of variables that the user did not set."""

_ENFORCED: Mapping[str, str] = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
}
"""Security switches, which override the user's values."""

_REMOVED = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""torch refuses to load anything if both this and its opposite are set."""

_prepared: dict[str, str] = {}
"""Variables set by `prepare_process`; child processes must not take them for the user's."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def mlflow_environment(environment: Mapping[str, str], **defaults: str) -> dict[str, str]:
    """Return the environment for a process that loads MLflow.

    Args:
        environment: The user's; overrides the defaults, but not the security switches.
        **defaults: Defaults of this process, which override the general ones.
    """
    general = dict(_DEFAULTS)
    given = {
        name: value
        for name, value in environment.items()
        if name != _REMOVED
        and (value or name not in _DEFAULTS)  # MLflow rejects an empty value as a malformed number
        and (name not in _prepared or _prepared[name] != value)
    }
    if "MLFLOW_DISABLE_TELEMETRY" in given:
        del general["DO_NOT_TRACK"]  # it would override a user who turns telemetry on
    return {**general, **defaults, **given, **_ENFORCED, **_no_proxy(environment)}


def prepare_process() -> None:
    """Apply `mlflow_environment` to this process, before it loads MLflow."""
    made = mlflow_environment(os.environ)
    _prepared.update(
        {name: made[name] for name in _DEFAULTS if made.get(name) != os.environ.get(name)}
    )
    os.environ.update(made)
    os.environ.pop(_REMOVED, None)


def longest_timeout(environment: Mapping[str, str]) -> str:
    """Return the longer timeout of requests and file transfers, for a process that reads files.

    Args:
        environment: As returned by `mlflow_environment`.
    """
    requests = environment["MLFLOW_HTTP_REQUEST_TIMEOUT"]
    files = environment["MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT"]
    if requests.isdecimal() and files.isdecimal():
        return max(requests, files, key=int)
    return files


def _no_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Return hosts reached without a proxy: the user's, and this machine."""
    # As in requests and urllib, the lower-case name wins.
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = [host for host in given.replace(" ", "").split(",") if host]
    if "*" not in hosts:
        hosts += [host for host in _LOOPBACK if host not in hosts]
    return {"no_proxy": ",".join(hosts), "NO_PROXY": ",".join(hosts)}
