"""Keep passwords out of what is stored or shown: failures, logs, messages.

A URL may carry a secret before its host (`://user:password@host`) or in its query
(`?password=...`); libpq's `password=...` and `Key='...'` in a traceback read the same.
"""

import re
from collections.abc import Callable
from urllib.parse import unquote

_NAMES = (
    r"(?:ssl)?password|passwd|pwd|passphrase|(?:access_?|auth_?|refresh_?|session_?|x-amz-security-)?"
    r"token|api_?key|(?:client_?)?secret|(?:aws_)?secret_(?:access_)?key|(?:aws_)?access_key(?:_id)?|"
    r"sig|(?:x-amz-)?signature|x-amz-credential"
)
_FIELD = re.compile(
    rf"""(?<![A-Za-z0-9_])((?:{_NAMES})(?:\s?=\s?|['"]\s?:\s?))"""
    r"""((?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")?[^\s&]*)""",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(://[^\s/:]*:)\S+(?=@)")
"""Greedy up to the last `@`: an unescaped password may contain `/`, `:` and `@`."""

_STARS = "***"
_MIN_SECRET = 4
"""Shorter strings occur in ordinary words; replacing them would garble the text."""


def masked(text: str) -> str:
    """Return the text with the secrets of every URL and connection string in it masked."""
    return _USERINFO.sub(r"\1***", _FIELD.sub(r"\1***", text))


def secrets_in(address: str) -> set[str]:
    """Return the secrets that an address carries, as written and percent-decoded."""
    found = {match[2].strip("'\"") for match in _FIELD.finditer(address)}
    for url in (address, _FIELD.sub(r"\1***", address)):
        found |= {match[0].removeprefix(match[1]) for match in _USERINFO.finditer(url)}
    found |= {unquote(secret) for secret in found}
    return {secret for secret in found if len(secret) >= _MIN_SECRET and secret != _STARS}


def scrubber(*addresses: str) -> Callable[[str], str]:
    """Return a function that masks a text, the secrets of known addresses anywhere in it."""
    known = sorted(
        {secret for address in addresses for secret in secrets_in(address)}, key=len, reverse=True
    )

    def scrub(text: str) -> str:
        for secret in known:
            text = text.replace(secret, "***")
        return masked(text)

    return scrub
