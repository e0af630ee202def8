"""The modes together: which counts first, and that being open never mends what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as checks
from hypothesis import strategies as st

from gateway.errors import NotAuthenticated
from gateway.identity.authenticators import LOCAL_USER, Authenticators
from gateway.identity.credentials import Credentials
from gateway.identity.issuer import Issuer
from gateway.identity.key_cache import new_secret
from gateway.identity.proxies import TrustedProxies
from gateway.identity.tokens import TokenVerifier
from gateway.model import Principal
from tests.identity.oidc import RSA, FakeFetcher, auth, claims, public, token
from tests.identity.test_key_cache import key_of, ring_of
from tests.identity.test_proxies import AUTH as PROXY_AUTH

if TYPE_CHECKING:
    from gateway.identity.key_cache import KeyCache

SECRET = new_secret()
BY_PROXY, ELSEWHERE = "10.1.2.3", "127.0.0.1"
USER = (b"X-Forwarded-User", b"proxy-user")


def key_cache() -> KeyCache:
    return ring_of(key_of(SECRET, "key-user"))


def tokens() -> TokenVerifier:
    settings = auth(jwks_url="https://login.example/jwks")
    return TokenVerifier(settings, Issuer(settings, FakeFetcher({"https://login.example/jwks": public(RSA)})))


def bearer(value: str | bytes) -> tuple[bytes, bytes]:
    return (b"Authorization", b"Bearer " + (value.encode() if isinstance(value, str) else value))


async def who(identity: Authenticators, *headers: tuple[bytes, bytes], peer: str | None = ELSEWHERE) -> str:
    """The user, or the code of the refusal in brackets."""
    try:
        principal = await identity.identify(Credentials.of(headers, peer))
    except NotAuthenticated as error:
        assert SECRET not in error.message
        return f"<{error.code}>"
    return principal.user


async def test_open_alone_looks_at_nothing() -> None:
    identity = Authenticators(is_open=True)
    for header in (bearer("any"), bearer(b"\xff"), (b"api-key", b"x"), (b"x", b"y"), bearer("a.b.c"), USER):
        assert await who(identity, header, peer=None) == "local"
    assert LOCAL_USER.roles == {"user"}


async def test_keys_alone() -> None:
    identity = Authenticators(keys=key_cache())
    assert await who(identity, bearer(SECRET)) == "key-user"
    assert await who(identity, (b"x-api-key", SECRET.encode())) == "key-user"
    assert await who(identity, (b"api-key", SECRET.encode())) == "key-user"
    assert await who(identity) == "<missing_api_key>"
    assert await who(identity, bearer(b"\xff\xfe")) == "<invalid_api_key>"
    assert await who(identity, bearer(token(RSA, claims()))) == "<invalid_api_key>"
    assert await who(identity, USER, peer=BY_PROXY) == "<missing_api_key>"


async def test_tokens_alone() -> None:
    identity = Authenticators(tokens=tokens())
    assert await who(identity, bearer(token(RSA, claims()))) == "ada@corp.example"
    assert await who(identity, bearer(SECRET)) == "<invalid_token>"
    assert await who(identity) == "<missing_api_key>"


async def test_keys_and_tokens_are_told_apart() -> None:
    identity = Authenticators(keys=key_cache(), tokens=tokens())
    assert await who(identity, bearer(SECRET)) == "key-user"
    assert await who(identity, bearer(token(RSA, claims()))) == "ada@corp.example"
    assert await who(identity, bearer("a.b.c")) == "<invalid_token>"
    assert await who(identity, bearer("sk-other")) == "<invalid_api_key>"


async def test_one_good_credential_of_several_is_enough() -> None:
    """A provider's own token may travel beside the gateway's key."""
    identity = Authenticators(keys=key_cache(), tokens=tokens())
    assert await who(identity, bearer("sk-proj-provider"), (b"x-api-key", SECRET.encode())) == "key-user"
    assert await who(identity, (b"Authorization", b"Basic YTpi"), (b"api-key", SECRET.encode())) == "key-user"
    assert await who(identity, bearer("sk-proj-provider"), (b"api-key", b"nor this")) == "<invalid_api_key>"


async def test_a_trusted_proxys_word_comes_first() -> None:
    identity = Authenticators(keys=key_cache(), tokens=tokens(), proxies=TrustedProxies(PROXY_AUTH))
    assert await who(identity, USER, bearer(SECRET), peer=BY_PROXY) == "proxy-user"
    assert await who(identity, bearer(SECRET), peer=BY_PROXY) == "key-user"
    assert (
        await who(identity, (b"X-Forwarded-User", b"\xff"), bearer(SECRET), peer=BY_PROXY) == "<invalid_proxy_header>"
    )


async def test_a_forged_header_counts_nothing() -> None:
    identity = Authenticators(keys=key_cache(), proxies=TrustedProxies(PROXY_AUTH))
    assert await who(identity, USER, bearer(SECRET), peer=ELSEWHERE) == "key-user"
    assert await who(identity, USER, peer=ELSEWHERE) == "<untrusted_proxy>"
    assert await who(identity, USER, peer=None) == "<untrusted_proxy>"
    assert await who(identity, USER, bearer("wrong"), peer=ELSEWHERE) == "<invalid_api_key>"
    alone = Authenticators(proxies=TrustedProxies(PROXY_AUTH))
    assert await who(alone, USER, peer=ELSEWHERE) == "<untrusted_proxy>"
    assert await who(alone, bearer(SECRET), peer=BY_PROXY) == "<invalid_api_key>"
    assert await who(alone, peer=BY_PROXY) == "<missing_credentials>"


@pytest.mark.parametrize(
    "header",
    [
        bearer("wrong"),
        bearer(""),
        bearer("a.b.c"),
        bearer(b"\xff"),
        (b"Authorization", b"Basic YTpi"),
        (b"Authorization", b""),
        (b"x-api-key", b""),
        (b"api-key", b"x"),
    ],
)
async def test_being_open_beside_others_never_mends_a_credential(header: tuple[bytes, bytes]) -> None:
    for identity in (
        Authenticators(is_open=True, keys=key_cache()),
        Authenticators(is_open=True, tokens=tokens()),
        Authenticators(is_open=True, keys=key_cache(), tokens=tokens(), proxies=TrustedProxies(PROXY_AUTH)),
        Authenticators(is_open=True, proxies=TrustedProxies(PROXY_AUTH)),
    ):
        assert (await who(identity, header)).startswith("<")


async def test_being_open_beside_others_is_for_who_shows_nothing() -> None:
    identity = Authenticators(is_open=True, keys=key_cache(), proxies=TrustedProxies(PROXY_AUTH))
    assert await who(identity) == "local"
    assert await who(identity, bearer(SECRET)) == "key-user"


async def test_the_local_user_does_not_come_through_a_proxy() -> None:
    """A proxy that forgets its header would make everybody an admin."""
    identity = Authenticators(is_open=True, proxies=TrustedProxies(PROXY_AUTH))
    assert await who(identity, peer=ELSEWHERE) == "local"
    assert await who(identity, peer=BY_PROXY) == "<missing_credentials>"
    assert await who(identity, (b"X-Forwarded-User", b""), peer=BY_PROXY) == "<missing_credentials>"
    assert await who(identity, USER, peer=ELSEWHERE) == "<untrusted_proxy>"


def test_what_is_between_caller_and_gateway_does_not_travel() -> None:
    provider = (b"authorization", b"Bearer sk-proj-provider")
    others = ((b"Content-Type", b"a.b.c"), (b"X-Forwarded-For", b"10.0.0.1"), provider)
    groups = (b"X-Forwarded-Groups", b"staff")
    keys = ((b"Api-Key", SECRET.encode()), (b"X-Goog-Api-Key", SECRET.encode()))
    ours = (*keys, bearer(SECRET), (b"Authorization", b"junk " + SECRET.encode()))
    for identity in (Authenticators(is_open=True), Authenticators(keys=key_cache())):
        assert identity.forwardable((*others, *ours)) == others
    every = Authenticators(keys=key_cache(), tokens=tokens(), proxies=TrustedProxies(PROXY_AUTH))
    assert every.forwardable((*others, *ours, bearer(token(RSA, claims())), USER, groups)) == others
    assert Authenticators(is_open=True).forwardable((USER, bearer("a.b.c"))) == (USER, bearer("a.b.c"))


async def test_no_mode_at_all_lets_nobody_in() -> None:
    for header in (bearer(SECRET), bearer("a.b.c"), USER, (b"x", b"y")):
        assert (await who(Authenticators(), header, peer=BY_PROXY)).startswith("<")


SHAPED = st.one_of(
    st.binary(max_size=200),
    st.from_regex(rb"Bearer [ -~]{0,80}\.[ -~]{0,80}\.[ -~]{0,80}", fullmatch=True),
    st.builds(lambda tail: b"Bearer sk-gw-" + tail, st.binary(min_size=40, max_size=46)),
    st.builds(lambda: b"Bearer " + SECRET.encode()),
    st.builds(lambda junk: b"Bearer " + token(RSA, claims()) + junk, st.binary(max_size=3)),
)
NAMES = st.sampled_from([b"authorization", b"Authorization", b"x-api-key", b"api-key", b"x-forwarded-user", b"x"])


@checks(deadline=None, max_examples=150)
@given(st.lists(st.tuples(NAMES, SHAPED), max_size=5), st.sampled_from([BY_PROXY, ELSEWHERE, None]), st.booleans())
async def test_any_bytes_give_a_principal_or_a_refusal(
    headers: list[tuple[bytes, bytes]], peer: str | None, is_open: bool
) -> None:
    identity = Authenticators(is_open=is_open, keys=key_cache(), tokens=tokens(), proxies=TrustedProxies(PROXY_AUTH))
    credentials = Credentials.of(tuple(headers), peer)
    try:
        principal = await identity.identify(credentials)
    except NotAuthenticated as error:
        assert error.message.isprintable()
        assert SECRET not in error.message
        return
    assert isinstance(principal, Principal)
    if principal is LOCAL_USER:
        assert is_open
        assert peer != BY_PROXY
        assert all(name == b"x" for name, _ in headers)
