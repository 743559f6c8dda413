"""Keep passwords out of what is stored or shown: failures, logs, messages.

A URL may carry a secret before its host (`://user:password@host`) or in its query
(`?password=...`); libpq's `password=...` and `Key='...'` in a traceback read the same.
"""

import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus, unquote, unquote_plus

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

_VALUE = re.compile(rf"[?&](?:{_NAMES})=(.*?)(?=&[^&=]*=|$)", re.IGNORECASE | re.DOTALL)
"""Of a query; an unescaped `&` belongs to the password as far as no other field begins."""

_STARS = "***"
_MIN_SECRET = 4
"""Shorter strings occur in ordinary words; replacing them would garble the text."""

_FORMS: tuple[Callable[[str], str], ...] = (
    str,
    quote,
    quote_plus,
    lambda secret: quote(secret, safe=""),
    lambda secret: repr(secret)[1:-1],
)
"""How libraries write a password: plain, percent-encoded, in a traceback."""


def masked(text: str) -> str:
    """Return the text with the secrets of every URL and connection string in it masked."""
    return _USERINFO.sub(r"\1***", _FIELD.sub(r"\1***", text))


def has_stray_at(address: str) -> bool:
    """Return whether libraries take a part of a password for the host: it has `@` or `?` in it."""
    rest = address.partition("://")[2]
    login = "" if rest.startswith("/") else rest.rpartition("@")[0]
    return "@" in login or "?" in login


def secrets_in(address: str) -> set[str]:
    """Return the secrets that an address carries, in each form in which a message may have them."""
    found = {match[2].strip("'\"") for match in _FIELD.finditer(address)}
    values = list(_VALUE.finditer(address))
    found |= {match[1] for match in values}
    before = address[: values[0].start()] if values else address
    found.add(before.partition("://")[2].rpartition("@")[0].partition(":")[2])
    found |= {part for secret in found for part in re.split("[@&]", secret)}
    plain = {form(secret) for secret in found for form in (str, unquote, unquote_plus)}
    known = {form(secret) for secret in plain for form in _FORMS}
    return {secret for secret in known if len(secret) >= _MIN_SECRET and secret != _STARS}


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
