"""The header mode: whom a trusted proxy may name, and that nobody else may."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import NotAuthenticated
from gateway.identity.credentials import Credentials
from gateway.identity.proxies import MAX_CACHED_PEERS, TrustedProxies
from gateway.settings import AuthSettings

AUTH = AuthSettings(
    modes=("header",),
    trusted_networks=(ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("192.168.1.7/32")),
    title_header="X-Forwarded-Title",
    groups_header="X-Forwarded-Groups",
    auditor_groups=("audit",),
    admin_groups=("LLM admins",),
)
BY_PROXY = "10.1.2.3"


def credentials(*headers: tuple[bytes, bytes], peer: str | None = BY_PROXY) -> Credentials:
    return Credentials.of(headers, peer)


def test_a_trusted_proxy_names_user_title_and_groups() -> None:
    principal = TrustedProxies(AUTH).principal(
        credentials(
            (b"x-forwarded-USER", b"ada@corp"),
            (b"X-Forwarded-Title", "Prüferin".encode()),
            (b"X-Forwarded-Groups", b"staff, audit,LLM admins"),
        )
    )
    assert principal is not None
    assert (principal.user, principal.title, principal.key_id) == ("ada@corp", "Prüferin", None)
    assert principal.roles == {"user", "auditor", "admin"}


def test_headers_that_are_not_configured_say_nothing() -> None:
    """A proxy that sets only the user passes the caller's own groups on."""
    bare = AuthSettings(modes=("header",), trusted_networks=AUTH.trusted_networks, admin_groups=("LLM admins",))
    principal = TrustedProxies(bare).principal(
        credentials(
            (b"X-Forwarded-User", b"ada"), (b"X-Forwarded-Groups", b"LLM admins"), (b"X-Forwarded-Title", b"CEO")
        )
    )
    assert principal is not None
    assert principal.title is None
    assert principal.roles == frozenset(("user",))


@pytest.mark.parametrize("peer", ["10.255.0.1", "192.168.1.7", "fd00::1", "::ffff:10.0.0.1", "fd00::1%eth0"])
def test_a_listed_address_is_trusted(peer: str) -> None:
    assert TrustedProxies(AUTH).is_trusted(peer)


@pytest.mark.parametrize(
    "peer", [None, "", "11.0.0.1", "192.168.1.8", "fe80::1", "::ffff:11.0.0.1", "::10.0.0.1", "10.0.0.1, 1.1.1.1", "x"]
)
def test_any_other_address_is_not(peer: str | None) -> None:
    proxies = TrustedProxies(AUTH)
    assert not proxies.is_trusted(peer)
    assert proxies.principal(credentials((b"X-Forwarded-User", b"ada"), peer=peer)) is None


def test_an_address_that_the_caller_writes_into_a_header_is_worth_nothing() -> None:
    forged = credentials((b"X-Forwarded-For", b"10.0.0.1"), (b"X-Forwarded-User", b"ada"), peer="1.2.3.4")
    assert TrustedProxies(AUTH).principal(forged) is None


@pytest.mark.parametrize("value", [b"", b"   "])
def test_an_empty_user_is_no_user(value: bytes) -> None:
    assert TrustedProxies(AUTH).principal(credentials((b"X-Forwarded-User", value))) is None


@pytest.mark.parametrize(
    "headers",
    [
        [(b"X-Forwarded-User", b"ada"), (b"X-Forwarded-User", b"bob")],
        [(b"X-Forwarded-User", b"\xff")],
        [(b"X-Forwarded-User", b"a\x00da")],
        [(b"X-Forwarded-User", b"a" * 257)],
        [(b"X-Forwarded-User", b"ada"), (b"X-Forwarded-Title", b"\xff")],
        [(b"X-Forwarded-User", b"ada"), (b"X-Forwarded-Groups", b"audit\x07")],
        [(b"X-Forwarded-User", b"ada"), (b"X-Forwarded-Groups", b"g" * 9000)],
    ],
)
def test_odd_headers_of_a_trusted_proxy_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        TrustedProxies(AUTH).principal(credentials(*headers))
    assert caught.value.code == "invalid_proxy_header"


NAMED = (b"X-Forwarded-User", b"X-Forwarded-Title", b"X-Forwarded-Groups")


@pytest.mark.parametrize("own", [b"LLM admins", b"staff", b""])
@pytest.mark.parametrize("of_proxy", [b"staff", b""])
@pytest.mark.parametrize("header", NAMED)
def test_f4_a_header_that_came_twice_is_refused_whichever_of_them_is_the_callers(
    header: bytes, of_proxy: bytes, own: bytes
) -> None:
    """A proxy sets an empty one for somebody without groups, and a caller's own beside it must not count."""
    others = [(name, b"x") for name in NAMED if name != header]
    for twice in ([(header, of_proxy), (header.lower(), own)], [(header.upper(), own), (header, of_proxy)]):
        for headers in ([*others, *twice], [*twice, *others], [twice[0], *others, twice[1]]):
            try:
                principal = TrustedProxies(AUTH).principal(credentials(*headers))
            except NotAuthenticated as error:
                assert error.code == "invalid_proxy_header"
            else:
                assert own == of_proxy == b""
                assert principal is None or principal.roles == {"user"}


def test_f4_one_header_with_commas_is_one_header() -> None:
    principal = TrustedProxies(AUTH).principal(
        credentials((b"X-Forwarded-User", b"ada"), (b"X-Forwarded-Groups", b"staff,audit , LLM admins"))
    )
    assert principal is not None
    assert principal.roles == {"user", "auditor", "admin"}


@pytest.mark.parametrize("name", [b"X_Forwarded_Groups", b"X-Forwarded_Groups", b"X--Forwarded-Groups", b"Groups"])
def test_f4_a_header_whose_name_is_only_alike_says_nothing(name: bytes) -> None:
    """Servers that fold underscores into dashes take it for the proxy's; here it is another header."""
    principal = TrustedProxies(AUTH).principal(
        credentials((b"X-Forwarded-User", b"ada"), (b"X-Forwarded-Groups", b"staff"), (name, b"LLM admins"))
    )
    assert principal is not None
    assert principal.roles == {"user"}


def test_many_peers_are_not_remembered_for_ever() -> None:
    proxies = TrustedProxies(AUTH)
    for number in range(MAX_CACHED_PEERS * 2):
        assert not proxies.is_trusted(f"172.16.{number // 256 % 256}.{number % 256}.{number}")
    assert len(proxies._trusted_peers) <= MAX_CACHED_PEERS
    assert proxies.is_trusted(BY_PROXY)


@given(st.binary(), st.binary(), st.sampled_from([BY_PROXY, "1.2.3.4", None]))
def test_any_bytes_give_a_principal_nobody_or_a_refusal(user: bytes, groups: bytes, peer: str | None) -> None:
    shown = credentials((b"X-Forwarded-User", user), (b"X-Forwarded-Groups", groups), peer=peer)
    try:
        principal = TrustedProxies(AUTH).principal(shown)
    except NotAuthenticated:
        assert peer == BY_PROXY
    else:
        assert principal is None or (peer == BY_PROXY and principal.user.isprintable())
