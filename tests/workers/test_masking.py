"""Secrets of addresses leave no trace in what is stored or shown."""

import re
import string
import traceback
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.redaction import has_stray_at, masked, scrubber, secrets_in

RAW = st.text(string.ascii_letters + string.digits + "/@:?#!$*+,.=-_~%'\"", min_size=6, max_size=30)
"""Passwords as people paste them; what a query cannot hold (`&`, blanks) only percent-encoded."""
ANY = st.text(string.printable.strip() + " äß€", min_size=6, max_size=30)
FIELDS = st.sampled_from(["password", "sslpassword", "token", "PASSWORD", "access_token", "sig"])


def _absent(password: str, text: str) -> bool:
    # What happens to spell a part of the frame proves nothing about masking.
    return password not in text or password in FRAME


FRAME = "cannot reach postgresql+psycopg://bob:***@db.example.org:5432/led?sslmode=require&=* now"


@given(RAW)
def test_no_password_before_the_host_survives(password: str) -> None:
    url = f"postgresql+psycopg://bob:{password}@db.example.org:5432/led?sslmode=require"
    assert _absent(password, masked(f"cannot reach {url} now"))
    assert _absent(password, masked("".join(traceback.format_exception(OSError(f"at {url}")))))


@given(FIELDS, RAW)
def test_no_password_in_a_query_or_connection_string_survives(field: str, password: str) -> None:
    url = f"postgresql+psycopg://db.example.org:5432/led?{field}={password}&sslmode=require"
    assert _absent(password, masked(f"cannot reach {url} now"))
    assert _absent(password, masked(f"host=db.example.org {field}={password} dbname=led"))
    assert _absent(password, masked(str({field: password, "host": "db.example.org"})))


@given(ANY, FIELDS)
def test_known_secrets_are_taken_out_wherever_they_stand(password: str, field: str) -> None:
    for url in (
        f"postgresql://bob:{quote(password, safe='')}@db.example.org/led",
        f"postgresql://db.example.org/led?{field}={quote(password, safe='')}",
    ):
        scrub = scrubber(url, "sqlite:////tmp/x")
        assert {password, quote(password, safe="")} <= secrets_in(url) | {FRAME}
        assert _absent(password, scrub(f"login failed with {password} now"))
        assert _absent(quote(password, safe=""), scrub(f"cannot reach {url} now"))


@given(ANY.filter(lambda text: " " not in (text[0], text[-1])))
def test_known_secrets_are_taken_out_however_they_are_written(password: str) -> None:
    """An address as pasted, without any escaping, and the ways in which libraries repeat it."""
    urls = [f"postgresql://bob:{password}@db.example.org/led"]
    if not re.search("&[^&]*=", password):  # in a query that is where another field begins
        urls.append(f"postgresql://bob@db.example.org/led?x=1&password={password}")
    for url in urls:
        scrub = scrubber(url)
        for text in (url, quote(password), quote(password, safe=""), quote_plus(password)):
            assert _absent(password, scrub(f"at {text} now"))
            assert _absent(quote(password), scrub(f"at {text} now"))
        assert _absent(repr(password)[1:-1], scrub(f"invalid value {password!r}"))


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
def test_an_address_whose_host_may_hold_a_secret_is_known(url: str, stray: bool) -> None:
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
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert masked(text) == text


def test_what_stays_of_an_address_says_where_it_leads() -> None:
    given = "postgresql://bob:s3/cr@t@db:5432/led?sslmode=require&password=s3&x=1"
    assert masked(given) == "postgresql://bob:***@db:5432/led?sslmode=require&password=***&x=1"
