"""Errors of MLflow's stores and their libraries: the reason in one line, and their kind."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException

_REASON_LENGTH = 300

FINAL = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE"})
"""Error codes that a retry would meet again, for example of a run that its user deleted."""
_USERS = frozenset(
    {"UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED", "ENDPOINT_NOT_FOUND"}
)
"""Error codes that last until the user changes a login, a permission or an address."""
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_OBJECT = re.compile(r"<?\S* object at 0x[0-9a-f]+>?:? ?")
_CONNECTION = re.compile(r"HTTPS?ConnectionPool\(.*\(Caused by .*: (.+?)[\"')]*$")
_CAUSE = r"\1"
"""The cause in urllib3's message on a failed connection, where it comes last."""


def reason(failure: Exception | None) -> str:
    """Return the message of a store or its library, in one line."""
    text = _OBJECT.sub("", str(failure or ""))
    lines = text.strip().splitlines() or [type(failure).__name__]
    kind = "" if isinstance(failure, MlflowException) else f"{type(failure).__name__}: "
    return f"{kind}{_CONNECTION.sub(_CAUSE, lines[0])}"[:_REASON_LENGTH]


def needs_user(failure: Exception) -> bool:
    """Return whether a retry cannot help: the login, a permission or the address is wrong."""
    return isinstance(failure, MlflowException) and failure.error_code in _USERS


@contextmanager
def as_mlflow_errors() -> Iterator[None]:
    """Convert any exception of a store's library into an `MlflowException`, except for a full disk.

    MLflow passes on exceptions of boto3, of a database's driver and of the file system.

    Raises:
        MlflowException: The store failed.
        OSError: A disk is full.
    """
    try:
        yield
    except MlflowException:
        raise
    except Exception as failure:
        if isinstance(failure, OSError) and failure.errno in _DISK_FULL:
            raise
        raise MlflowException(reason(failure)) from failure
