"""What can be named: registries of blocks, terms and spaces, and objects in a user's own file.

Knows no particular block, term or space; those register themselves.
"""

import difflib
from collections.abc import Iterable


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option that a misspelt name most likely meant; None if nothing comes close."""
    found = difflib.get_close_matches(name, list(options), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """An error's last sentence, with a space before it; empty if nothing comes close."""
    meant = nearest(name, options)
    return "" if meant is None else f" Did you mean {meant!r}?"
