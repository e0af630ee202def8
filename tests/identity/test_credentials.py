"""What a request shows: credentials out of raw headers, whatever bytes they hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.credentials import Credentials

KEY = b"sk-gw-" + b"k" * 43


def shown(*headers: tuple[bytes, bytes]) -> Credentials:
    return Credentials.of(headers, "127.0.0.1")


@pytest.mark.parametrize(
    "header",
    [
        (b"Authorization", b"Bearer " + KEY),
        (b"authorization", b"bearer   " + KEY + b" "),
        (b"AUTHORIZATION", b" BEARER " + KEY),
        (b"X-Api-Key", KEY),
        (b"api-key", b"  " + KEY),
    ],
)
def test_a_credential_comes_in_any_of_three_headers(header: tuple[bytes, bytes]) -> None:
    credentials = shown((b"Host", b"x"), header)
    assert credentials.candidates() == [KEY]
    assert credentials.has_credential


def test_credentials_count_in_their_order_and_each_once() -> None:
    assert shown((b"api-key", b"c"), (b"x-api-key", b"b"), (b"authorization", b"Bearer a")).candidates() == [
        b"a",
        b"b",
        b"c",
    ]
    assert shown((b"api-key", b"a"), (b"x-api-key", b"a"), (b"authorization", b"Bearer a")).candidates() == [b"a"]


@pytest.mark.parametrize("value", [b"", b"  ", b"Bearer", b"Bearer ", b"Basic YTpi", KEY, b"Bearer\t" + KEY])
def test_an_authorization_that_is_no_bearer_token_is_none_but_is_noticed(value: bytes) -> None:
    credentials = shown((b"authorization", value))
    assert credentials.candidates() == []
    assert credentials.has_credential


def test_a_header_that_comes_twice_is_not_half_believed() -> None:
    credentials = shown((b"Authorization", b"Bearer " + KEY), (b"Authorization", b"Bearer " + KEY))
    assert KEY not in credentials.candidates()


def test_no_secret_is_in_its_text() -> None:
    credentials = shown((b"Authorization", b"Bearer " + KEY), (b"api-key", KEY))
    for text in (repr(credentials), str(credentials), f"{credentials}"):
        assert KEY.decode() not in text


@given(st.lists(st.tuples(st.sampled_from([b"authorization", b"x-api-key", b"api-key", b"x"]), st.binary())))
def test_any_bytes_are_taken(headers: list[tuple[bytes, bytes]]) -> None:
    credentials = Credentials.of(tuple(headers), None)
    assert all(credentials.candidates())
    assert credentials.has_credential == any(name != b"x" for name, _ in headers)
