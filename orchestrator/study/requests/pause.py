"""Requested pauses: a running driver stops as after a signal; its trials wait."""

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.ledger import Effect, Lease, Ledger, Request
from orchestrator.study.requests.view import StudyView

PAUSE = "pause"
"""Request kind; payload `driver`: holder of the lease that is to stop, so that a later driver does
not; answer `paused`: whether that driver stopped for it."""


def pause(study: StudyView, payload: Mapping[str, Any]) -> Effect:  # noqa: ARG001 - as of all kinds
    """Change nothing: the driver that was to pause has ended."""
    return Effect(answer={"paused": False})


def is_for_driver(request: Request, lease: Lease) -> bool:
    """Return whether a request is to pause the driver that holds this lease."""
    return request.kind == PAUSE and request.payload["driver"] == str(lease.holder)


def is_requested(requests: Iterable[Request], lease: Lease) -> bool:
    """Return whether one of the open requests is to pause the driver that holds this lease."""
    return any(is_for_driver(request, lease) for request in requests)


def confirm_pause(ledger: Ledger, lease: Lease) -> None:
    """Answer the requests that a driver has stopped for, as its last write.

    Raises:
        LeaseLostError: Another driver has taken the study over.
    """
    for request in ledger.requests(lease.study_id):
        if is_for_driver(request, lease):
            ledger.carry_out(lease, request.id, Effect(answer={"paused": True}))
