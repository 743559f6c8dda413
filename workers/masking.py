"""Keeps passwords out of what is kept: failures, logs and whatever shows them."""

import re

_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")


def masked(text: str) -> str:
    """The text, with the password of every URL in it replaced by stars."""
    return _PASSWORD.sub(r"\1***", text)
