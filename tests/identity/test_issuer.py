"""The issuer's keys: asked for rarely, together, and kept while it is away. With a real server where it counts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from joserfc.jwk import RSAKey

from gateway.errors import IdentityUnavailable, NotAuthenticated
from gateway.identity import issuer as issuer_module
from gateway.identity.fetching import MAX_BYTES, HttpFetcher
from gateway.identity.issuer import MAX_AGE_S, MIN_FETCH_INTERVAL_S, FetchError, Issuer
from gateway.identity.jws import TokenHeader
from gateway.identity.tokens import TokenVerifier
from tests.identity.oidc import EC, OKP, RSA, FakeFetcher, Provider, auth, claims, public, running_provider, token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

JWKS = "https://login.example/jwks"
RS = TokenHeader("RS256", "rsa")
ROTATED = RSAKey.generate_key(2048, {"kid": "rsa-new"})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def issuer_of(fetcher: Any, clock: Clock, **more: Any) -> Issuer:
    return Issuer(auth(**{"jwks_url": JWKS, **more}), fetcher, clock)


async def settled(issuer: Issuer) -> None:
    """Until the question that is under way is answered."""
    while issuer._fetching is not None:
        await asyncio.sleep(0)


# --- how often it is asked ---


async def test_many_callers_at_once_ask_once(clock: Clock) -> None:
    gate = asyncio.Event()
    fetcher = FakeFetcher({JWKS: public(RSA)}, before=lambda _: wait(gate))
    issuer = issuer_of(fetcher, clock)
    callers = [asyncio.create_task(issuer.key_for(RS)) for _ in range(50)]
    await asyncio.sleep(0.01)
    gate.set()
    found = await asyncio.gather(*callers)
    assert len({id(key) for key in found}) == 1
    assert fetcher.asked == [JWKS]


async def wait(gate: asyncio.Event) -> None:
    await gate.wait()


async def test_invented_key_ids_do_not_hammer_the_issuer(clock: Clock) -> None:
    fetcher = FakeFetcher({JWKS: public(RSA)})
    issuer = issuer_of(fetcher, clock)
    for second in range(60):
        clock.now = 1000.0 + second
        for number in range(20):
            with pytest.raises(NotAuthenticated):
                await issuer.key_for(TokenHeader("RS256", f"invented-{second}-{number}"))
    assert len(fetcher.asked) == 60 / MIN_FETCH_INTERVAL_S
    assert await issuer.key_for(RS)


async def test_a_rotated_key_is_found_at_once(clock: Clock) -> None:
    fetcher = FakeFetcher({JWKS: public(RSA)})
    issuer = issuer_of(fetcher, clock)
    await issuer.key_for(RS)
    fetcher.documents[JWKS] = public(RSA, ROTATED)
    clock.now += MIN_FETCH_INTERVAL_S
    assert await issuer.key_for(TokenHeader("RS256", "rsa-new"))
    assert await issuer.key_for(RS)
    assert issuer.edition == 2
    assert len(fetcher.asked) == 2


async def test_old_keys_are_renewed_in_the_background(clock: Clock) -> None:
    fetcher = FakeFetcher({JWKS: public(RSA)})
    issuer = issuer_of(fetcher, clock)
    issuer.refresh_if_old()
    await settled(issuer)
    for _ in range(100):
        issuer.refresh_if_old()
    assert len(fetcher.asked) == 1
    fetcher.documents[JWKS] = public(ROTATED)
    clock.now += MAX_AGE_S + 1
    issuer.refresh_if_old()
    issuer.refresh_if_old()
    assert await issuer.key_for(RS), "the old ones serve until the answer is there"
    await settled(issuer)
    assert len(fetcher.asked) == 2
    with pytest.raises(NotAuthenticated):
        await issuer.key_for(RS)


async def test_a_caller_who_goes_does_not_spoil_it_for_the_others(clock: Clock) -> None:
    gate = asyncio.Event()
    issuer = issuer_of(FakeFetcher({JWKS: public(RSA)}, before=lambda _: wait(gate)), clock)
    first, second = (asyncio.create_task(issuer.key_for(RS)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await second
    assert first.cancelled()


# --- when it is away ---


async def test_known_keys_are_kept_while_the_issuer_is_away(clock: Clock) -> None:
    fetcher = FakeFetcher({JWKS: public(RSA)})
    issuer = issuer_of(fetcher, clock)
    await issuer.key_for(RS)
    for gone in (FetchError("away"), {"keys": 7}, {}):
        fetcher.documents[JWKS] = gone
        clock.now += 10 * MAX_AGE_S
        issuer.refresh_if_old()
        await settled(issuer)
        assert await issuer.key_for(RS)
        assert issuer.state()["fault"]
    assert issuer.edition == 1
    fetcher.documents[JWKS] = public(RSA)
    clock.now += MAX_AGE_S
    issuer.refresh_if_old()
    await settled(issuer)
    assert issuer.state() == {"keys": 1, "age_s": 0.0, "fault": None}


async def test_an_issuer_that_was_never_reached_makes_nobody_a_liar(clock: Clock) -> None:
    fetcher = FakeFetcher({JWKS: FetchError("away")})
    issuer = issuer_of(fetcher, clock)
    for _ in range(3):
        with pytest.raises(IdentityUnavailable):
            await issuer.key_for(RS)
    assert fetcher.asked == [JWKS], "asked again only after the pause"
    fetcher.documents[JWKS] = public(RSA)
    clock.now += MIN_FETCH_INTERVAL_S
    assert await issuer.key_for(RS)


async def test_what_a_withdrawn_key_has_signed_counts_no_more(clock: Clock) -> None:
    fetcher = FakeFetcher({JWKS: public(RSA, EC)})
    issuer = issuer_of(fetcher, clock)
    tokens = TokenVerifier(auth(jwks_url=JWKS), issuer)
    by_rsa, by_ec = token(RSA, claims()), token(EC, claims(), "ES256")
    assert await tokens.principal(by_rsa)
    assert await tokens.principal(by_ec)
    fetcher.documents[JWKS] = public(EC)
    clock.now += MAX_AGE_S + 1
    await tokens.principal(by_rsa)  # the last time: it starts the renewal
    await settled(issuer)
    with pytest.raises(NotAuthenticated):
        await tokens.principal(by_rsa)
    assert await tokens.principal(by_ec)


async def test_it_closes_while_a_question_is_under_way(clock: Clock) -> None:
    issuer = issuer_of(FakeFetcher({}, before=lambda _: wait(asyncio.Event())), clock)
    issuer.refresh_if_old()
    await asyncio.sleep(0)
    await issuer.aclose()
    assert issuer._fetching is None


# --- discovery ---


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example/", "jwks_uri": JWKS},
        {"issuer": "https://login.example", "jwks_uri": JWKS},
        {"jwks_uri": JWKS},
        {"issuer": "https://login.example/"},
        {"issuer": "https://login.example/", "jwks_uri": 7},
        {"issuer": "https://login.example/", "jwks_uri": "http://login.example/jwks"},
        {"issuer": "https://login.example/", "jwks_uri": "file:///etc/passwd"},
    ],
)
async def test_a_discovery_document_that_cannot_be_meant_is_not_followed(document: Any, clock: Clock) -> None:
    well_known = "https://login.example/.well-known/openid-configuration"
    fetcher = FakeFetcher({well_known: document, JWKS: public(RSA)})
    with pytest.raises(IdentityUnavailable):
        await issuer_of(fetcher, clock, jwks_url=None).key_for(RS)
    assert fetcher.asked == [well_known]


async def test_discovery_leads_to_the_keys(clock: Clock) -> None:
    well_known = "https://login.example/.well-known/openid-configuration"
    document = {"issuer": "https://login.example/", "jwks_uri": "https://keys.example/jwks"}
    fetcher = FakeFetcher({well_known: document, "https://keys.example/jwks": public(RSA)})
    assert await issuer_of(fetcher, clock, jwks_url=None).key_for(RS)
    assert fetcher.asked == [well_known, "https://keys.example/jwks"]


# --- a real server ---


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with running_provider() as running:
        yield running


@pytest.fixture
async def fetcher() -> AsyncIterator[HttpFetcher]:
    made = HttpFetcher(lambda _: None, timeout_s=0.5)
    yield made
    await made.aclose()


async def test_a_whole_day_with_an_issuer(
    provider: Provider, fetcher: HttpFetcher, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start, rotate, withdraw, go away, come back."""
    settings = auth(provider.url)
    issuer = Issuer(settings, fetcher, clock)
    tokens = TokenVerifier(settings, issuer)
    provider.keys = (RSA, OKP)
    old, new = token(RSA, claims(provider.url)), token(ROTATED, claims(provider.url))
    assert (await tokens.principal(old)).user == "ada@corp.example"
    assert provider.asked == ["/.well-known/openid-configuration", "/jwks"]

    with pytest.raises(NotAuthenticated):
        await tokens.principal(new)
    provider.keys = (RSA, ROTATED)
    clock.now += MIN_FETCH_INTERVAL_S
    assert await tokens.principal(new)

    await provider.stop()
    clock.now += MAX_AGE_S + 1
    assert await tokens.principal(new)
    await settled(issuer)
    assert issuer.state()["fault"]
    assert await tokens.principal(old)

    provider.keys = (ROTATED,)
    await provider.start()
    clock.now += MIN_FETCH_INTERVAL_S
    assert await tokens.principal(new)
    await settled(issuer)
    assert issuer.state()["fault"] is None
    with pytest.raises(NotAuthenticated):
        await tokens.principal(old)


async def answering(provider: Provider, path: str, **response: Any) -> str:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(**response)

    provider.answers[path] = answer
    return provider.url + path


@pytest.mark.parametrize(
    "response",
    [
        {"body": b"{" + b" " * MAX_BYTES + b"}"},
        {"body": b"not json"},
        {"body": b"[]"},
        {"body": b""},
        {"body": b"\xff"},
        {"status": 500, "body": b"{}"},
        {"status": 404, "body": b"{}"},
        {"status": 204},
        {"body": b"\x1f\x8b\x08\x00" + b"\x00" * 50, "headers": {"Content-Encoding": "gzip"}},
    ],
)
async def test_what_is_no_small_json_object_is_an_error_in_words(
    provider: Provider, fetcher: HttpFetcher, response: dict[str, Any]
) -> None:
    with pytest.raises(FetchError):
        await fetcher.get(await answering(provider, "/x", **response))


async def test_redirects_are_followed_on_the_same_host_only(provider: Provider, fetcher: HttpFetcher) -> None:
    async with running_provider() as other:
        near = await answering(provider, "/near", status=307, headers={"Location": "/jwks"})
        far = await answering(provider, "/far", status=302, headers={"Location": f"{other.url}/jwks"})
        odd = await answering(provider, "/odd", status=302, headers={"Location": "//["})
        none = await answering(provider, "/none", status=302)
        loop = await answering(provider, "/loop", status=308, headers={"Location": "/loop"})
        assert (await fetcher.get(near))["keys"]
        for url in (far, odd, none, loop):
            with pytest.raises(FetchError):
                await fetcher.get(url)
        assert other.asked == []


async def test_a_slow_or_endless_answer_is_given_up(provider: Provider, fetcher: HttpFetcher) -> None:
    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 1000)
            await asyncio.sleep(0.01)

    provider.answers |= {"/silent": silent, "/endless": endless}
    for path in ("/silent", "/endless"):
        with pytest.raises(FetchError, match="within"):
            await fetcher.get(provider.url + path)


async def test_nobody_there_is_an_error_in_words(fetcher: HttpFetcher) -> None:
    for url in ("http://127.0.0.1:1/x", "http://nowhere.invalid/", "https://127.0.0.1:1/x", "http://[", "nonsense"):
        with pytest.raises(FetchError):
            await fetcher.get(url)


def test_the_pauses_are_what_the_readme_says() -> None:
    assert (issuer_module.MIN_FETCH_INTERVAL_S, issuer_module.MAX_AGE_S) == (10.0, 600.0)
