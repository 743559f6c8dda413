"""Failures are told by whose fault they are, and recognised when they come again."""

import errno
import json
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.failures import BadCandidate, Diverged, Failure, FailureKind, UserCodeError, classify


def raised(error: Exception, wrapper: type[Exception] | None = None) -> Exception:
    """The error as it arrives: raised, and perhaps wrapped on its way."""

    def fail() -> None:
        if wrapper is None:
            raise error
        try:
            raise error
        except type(error) as inner:
            raise wrapper("wrapped") from inner

    with pytest.raises(wrapper or type(error)) as caught:
        fail()
    return caught.value


ENOSPC = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "wrapper", "kind"),
    [
        (MemoryError(), None, "out_of_memory"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            None,
            "out_of_memory",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            None,
            "out_of_memory",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), None, "out_of_memory"),
        (MemoryError(), UserCodeError, "out_of_memory"),
        (MemoryError(), BadCandidate, "out_of_memory"),
        (Diverged("train_loss is nan"), None, "diverged"),
        (Diverged("metric is nan"), UserCodeError, "diverged"),
        (BadCandidate("heads"), None, "bad_candidate"),
        (ValueError("heads must divide"), BadCandidate, "bad_candidate"),
        (ENOSPC, None, "no_space"),
        (OSError(errno.EIO, "Input/output error"), None, "infrastructure"),
        (OSError(errno.EIO, "Input/output error"), UserCodeError, "infrastructure"),
        (ConnectionResetError("peer"), None, "infrastructure"),
        (ENOSPC, UserCodeError, "no_space"),
        (ConnectionResetError("peer"), UserCodeError, "infrastructure"),
        (FileNotFoundError(errno.ENOENT, "No such file"), UserCodeError, "user_code"),
        (KeyError("x"), UserCodeError, "user_code"),
        (RuntimeError("shapes do not fit"), None, "user_code"),
    ],
)
def test_every_exception_has_its_kind(
    error: Exception, wrapper: type[Exception] | None, kind: str
) -> None:
    failure = classify(raised(error, wrapper))
    assert failure.kind == kind
    assert type(error).__name__ in failure.message
    assert "Traceback" in failure.traceback
    assert re.fullmatch(r"test_failures.py:\d+ in fail", failure.where)


def test_the_same_mistake_again_has_the_same_digest() -> None:
    def fail(size: int) -> Failure:
        return classify(raised(ValueError(f"cannot take {size} bytes at 0x{size:x}")))

    assert fail(10).digest == fail(123456).digest
    assert fail(10).digest != classify(raised(ValueError("another mistake"))).digest
    assert fail(10).digest != classify(raised(TypeError("cannot take 10 bytes at 0xa"))).digest


def test_the_same_words_from_another_place_are_another_mistake() -> None:
    def here() -> None:
        raise ValueError("no")

    def there() -> None:
        raise ValueError("no")

    digests = set()
    for place in (here, there):
        with pytest.raises(ValueError, match="no") as caught:
            place()
        digests.add(classify(caught.value).digest)
    assert len(digests) == 2


def test_a_failure_seen_from_outside_needs_no_traceback() -> None:
    failure = Failure.without_traceback(FailureKind.TIMEOUT, "no sign of life for 120 s")
    assert (failure.kind, failure.traceback) == ("timeout", "")
    assert failure.digest


def test_long_messages_are_cut_and_empty_ones_keep_their_class() -> None:
    assert len(classify(ValueError("x" * 10_000)).message) <= 500
    assert classify(ValueError()).message == "ValueError"


@given(kind=st.sampled_from(FailureKind), message=st.text(), trace=st.text(), digest=st.text())
def test_a_failure_survives_json(kind: FailureKind, message: str, trace: str, digest: str) -> None:
    failure = Failure(kind=kind, message=message, traceback=trace, digest=digest)
    assert Failure.from_dict(json.loads(json.dumps(failure.to_dict()))) == failure
