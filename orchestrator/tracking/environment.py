"""Environment variables of every process of ours that loads MLflow; loads nothing itself."""

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
"""Values for what the user did not set."""

_ENFORCED: Mapping[str, str] = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
}
"""Security switches, whatever the user set."""

_REMOVED = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""torch refuses to load anything while this stands beside its opposite."""

_prepared: dict[str, str] = {}
"""What `prepare_process` put into this process; not the user's choice for the next one."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def mlflow_environment(environment: Mapping[str, str], **defaults: str) -> dict[str, str]:
    """Return the environment for a process that loads MLflow.

    Args:
        environment: The user's; its values win over defaults, not over security switches.
        **defaults: Further defaults of this process, which win over the general ones.
    """
    general = dict(_DEFAULTS)
    given = {
        name: value
        for name, value in environment.items()
        if name != _REMOVED
        and (value or name not in _DEFAULTS)  # MLflow takes an empty one for a malformed number
        and (name not in _prepared or _prepared[name] != value)
    }
    if "MLFLOW_DISABLE_TELEMETRY" in given:
        del general["DO_NOT_TRACK"]  # it would overrule a user who turns telemetry on
    return {**general, **defaults, **given, **_ENFORCED, **_no_proxy(environment)}


def prepare_process() -> None:
    """Give this process the environment of `mlflow_environment`, before it loads MLflow."""
    made = mlflow_environment(os.environ)
    _prepared.update(
        {name: made[name] for name in _DEFAULTS if made.get(name) != os.environ.get(name)}
    )
    os.environ.update(made)
    os.environ.pop(_REMOVED, None)


def longest_timeout(environment: Mapping[str, str]) -> str:
    """Return the longer of the limits of requests and of files, for a process that reads files.

    Args:
        environment: As `mlflow_environment` makes it.
    """
    requests = environment["MLFLOW_HTTP_REQUEST_TIMEOUT"]
    files = environment["MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT"]
    if requests.isdecimal() and files.isdecimal():
        return max(requests, files, key=int)
    return files


def _no_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Hosts reached without a proxy: the user's, and this machine, which no proxy can reach."""
    # The order of requests and urllib: the lower-case name wins.
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = [host for host in given.replace(" ", "").split(",") if host]
    if "*" not in hosts:
        hosts += [host for host in _LOOPBACK if host not in hosts]
    return {"no_proxy": ",".join(hosts), "NO_PROXY": ",".join(hosts)}
