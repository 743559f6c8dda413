"""Redaction of secrets in what is stored or shown: failures, logs, messages.

A URL may carry a secret before its host (`://user:password@host`) or in its query
(`?password=...`); libpq's `password=...` and `Key='...'` in a traceback are matched too.
"""

import re
from collections.abc import Callable, Iterable
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
"""Value in a query; an unescaped `&` belongs to the password unless another field follows."""

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
"""Forms in which libraries repeat a password: plain, percent-encoded, in a traceback."""


def redact(text: str, addresses: Iterable[str] = ()) -> str:
    """Replace the secrets in a text by `***`.

    Args:
        text: Any text; secrets of every URL and connection string in it are found by pattern.
        addresses: URLs whose secrets are replaced wherever they occur.

    Examples:
        >>> redact("postgresql://bob:pw@host/db")
        'postgresql://bob:***@host/db'
    """
    known = {secret for address in addresses for secret in find_secrets(address)}
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _USERINFO.sub(r"\1***", _FIELD.sub(r"\1***", text))


def find_secrets(address: str) -> set[str]:
    """Return the secrets of an address, in every form in which a message may repeat them."""
    found = {match[2].strip("'\"") for match in _FIELD.finditer(address)}
    values = list(_VALUE.finditer(address))
    found |= {match[1] for match in values}
    before = address[: values[0].start()] if values else address
    found.add(before.partition("://")[2].rpartition("@")[0].partition(":")[2])
    found |= {part for secret in found for part in re.split("[@&]", secret)}
    plain = {form(secret) for secret in found for form in (str, unquote, unquote_plus)}
    known = {form(secret) for secret in plain for form in _FORMS}
    return {secret for secret in known if len(secret) >= _MIN_SECRET and secret != _STARS}


def has_stray_at(address: str) -> bool:
    """Return whether libraries would take part of the password for the host: it has `@` or `?`."""
    rest = address.partition("://")[2]
    login = "" if rest.startswith("/") else rest.rpartition("@")[0]
    return "@" in login or "?" in login
