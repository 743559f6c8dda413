"""Answer the open requests of a study: by its driver, or by a command under a short lease.

A kind of request is a function from the study and the payload to an effect. The ledger records the
effect and the answer in one transaction, so a request that is answered again changes nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestrator.confirmation.plan import KIND
from orchestrator.ledger import Effect, Lease, Ledger
from orchestrator.study.requests.edit import EDIT
from orchestrator.study.requests.enqueue import ENQUEUE
from orchestrator.study.requests.extend import EXTEND, extend
from orchestrator.study.requests.pause import PAUSE, is_for_driver, pause
from orchestrator.study.requests.retry import RETRY, retry
from orchestrator.study.requests.stop import STOP, stop
from orchestrator.study.requests.view import StudyView, refusal


def _edit(study: StudyView, payload: Mapping[str, Any]) -> Effect:
    from orchestrator.study.requests.edit_effect import edit  # noqa: PLC0415 - loads torch

    return edit(study, payload)


_EFFECTS: Mapping[str, Callable[[StudyView, Mapping[str, Any]], Effect]] = {
    EDIT: _edit,
    EXTEND: extend,
    PAUSE: pause,
    RETRY: retry,
    STOP: stop,
}
"""Function that decides what a request changes, by kind."""


def answer_requests(
    ledger: Ledger, lease: Lease, name: str, *, by_driver: bool = False
) -> Iterator[Effect]:
    """Carry out the open requests of a study, oldest first.

    Requests for a confirmation stay open until it is decided, designs until a driver's sampler
    completes them, and requests to pause this driver until it has stopped.

    Args:
        ledger: The study's ledger.
        lease: Lease on the study.
        name: The study's name.
        by_driver: The driver that runs the study answers, not a command.

    Yields:
        What each request changed, once it is recorded.

    Raises:
        LeaseLostError: Another driver has taken the study over.
    """
    for request in ledger.requests(lease.study_id):
        if request.kind in {KIND, ENQUEUE} or is_for_driver(request, lease):
            continue
        decide = _EFFECTS.get(request.kind)
        if decide is None:
            effect = refusal(f"this release does not know {request.kind!r}")
        else:
            effect = decide(StudyView.read(ledger, name, by_driver=by_driver), request.payload)
        if ledger.carry_out(lease, request.id, effect):
            yield effect
