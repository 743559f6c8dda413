"""Redaction: secrets of addresses are removed from what is stored or shown."""

import re
import string
import traceback
from functools import partial
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.redaction import find_secrets, has_stray_at, redact

RAW = st.text(string.ascii_letters + string.digits + "/@:?#!$*+,.=-_~%'\"", min_size=6, max_size=30)
"""Pasted passwords, without characters that a query has only percent-encoded (`&`, blanks)."""
ANY = st.text(string.printable.strip() + " äß€", min_size=6, max_size=30)
FIELDS = st.sampled_from(["password", "sslpassword", "token", "PASSWORD", "access_token", "sig"])


def _absent(password: str, text: str) -> bool:
    # A password that occurs in the frame proves nothing about redaction.
    return password not in text or password in FRAME


FRAME = "cannot reach postgresql+psycopg://bob:***@db.example.org:5432/led?sslmode=require&=* now"


@given(RAW)
def test_no_password_before_the_host_survives(password: str) -> None:
    url = f"postgresql+psycopg://bob:{password}@db.example.org:5432/led?sslmode=require"
    assert _absent(password, redact(f"cannot reach {url} now"))
    assert _absent(password, redact("".join(traceback.format_exception(OSError(f"at {url}")))))


@given(FIELDS, RAW)
def test_no_password_in_a_query_or_connection_string_survives(field: str, password: str) -> None:
    url = f"postgresql+psycopg://db.example.org:5432/led?{field}={password}&sslmode=require"
    assert _absent(password, redact(f"cannot reach {url} now"))
    assert _absent(password, redact(f"host=db.example.org {field}={password} dbname=led"))
    assert _absent(password, redact(str({field: password, "host": "db.example.org"})))


@given(ANY, FIELDS)
def test_known_secrets_are_redacted_anywhere_in_a_text(password: str, field: str) -> None:
    for url in (
        f"postgresql://bob:{quote(password, safe='')}@db.example.org/led",
        f"postgresql://db.example.org/led?{field}={quote(password, safe='')}",
    ):
        redact_known = partial(redact, addresses=(url, "sqlite:////tmp/x"))
        assert {password, quote(password, safe="")} <= find_secrets(url) | {FRAME}
        assert _absent(password, redact_known(f"login failed with {password} now"))
        assert _absent(quote(password, safe=""), redact_known(f"cannot reach {url} now"))


@given(ANY.filter(lambda text: " " not in (text[0], text[-1])))
def test_known_secrets_are_redacted_in_every_form(password: str) -> None:
    """The address is pasted without escaping; libraries repeat it in several forms."""
    urls = [f"postgresql://bob:{password}@db.example.org/led"]
    if not re.search("&[^&]*=", password):  # in a query that is where another field begins
        urls.append(f"postgresql://bob@db.example.org/led?x=1&password={password}")
    for url in urls:
        redact_known = partial(redact, addresses=(url,))
        for text in (url, quote(password), quote(password, safe=""), quote_plus(password)):
            assert _absent(password, redact_known(f"at {text} now"))
            assert _absent(quote(password), redact_known(f"at {text} now"))
        assert _absent(repr(password)[1:-1], redact_known(f"invalid value {password!r}"))


@pytest.mark.parametrize(
    ("url", "stray"),
    [
        ("postgresql://bob:a@b@db/led", True),
        ("postgresql://bob@db/led?password=a@b", True),
        ("postgresql://db:5432/led?password=a@b", True),
        ("postgresql:///led?host=db&password=a@b", False),
        ("postgresql://bob:a%40b@db/led?password=a%3Fb", False),
    ],
)
def test_an_address_whose_host_may_contain_a_secret_is_detected(url: str, stray: bool) -> None:
    assert has_stray_at(url) is stray


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/#/experiments/1",
        "sqlite:////home/me/mlruns/ledger.db",
        "max_tokens=512 tokens=3 tokenizer=x",
        "the password was wrong; mail me@example.org",
        "models:/digits@champion",
    ],
)
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert redact(text) == text


def test_a_redacted_address_keeps_its_host_and_options() -> None:
    given = "postgresql://bob:s3/cr@t@db:5432/led?sslmode=require&password=s3&x=1"
    assert redact(given) == "postgresql://bob:***@db:5432/led?sslmode=require&password=***&x=1"
