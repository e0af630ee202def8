"""A gateway without credentials is for programs and pages of its own machine, not for pages of other sites."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.edge.guard import Guard
from gateway.errors import NotAllowed
from gateway.settings import load


def check(environ: dict[str, str], **headers: str) -> None:
    Guard(load(environ)).check(make_mocked_request("POST", "/v1/chat/completions", headers=headers))


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost", "LOCALHOST:8000", "[::1]:8000", "127.8.9.1", "gw.localhost"]
)
def test_loopback_names_are_ours(host: str) -> None:
    check({}, Host=host)
    check({}, Host=host, Origin=f"http://{host}")


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]"]
)
def test_a_name_that_was_made_to_point_here_is_refused(host: str) -> None:
    with pytest.raises(NotAllowed):
        check({}, Host=host)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example:8000", "garbage", ""]
)
def test_pages_of_other_sites_are_refused(origin: str) -> None:
    with pytest.raises(NotAllowed):
        check({}, Host="localhost:8000", Origin=origin)


def test_the_public_name_is_ours() -> None:
    check({"GATEWAY_PUBLIC_URL": "https://llm.example.com"}, Host="llm.example.com")


def test_where_a_credential_is_wanted_any_name_will_do() -> None:
    check({"GATEWAY_AUTH": "keys", "GATEWAY_HOST": "0.0.0.0"}, Host="gateway.example", Origin="https://page.example")
