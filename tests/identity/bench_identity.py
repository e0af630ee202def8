"""What it costs to know a caller, in each mode: `python -m tests.identity.bench_identity`. µs of CPU."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from gateway.identity.authenticators import Authenticators
from gateway.identity.credentials import Credentials
from gateway.identity.issuer import Issuer
from gateway.identity.key_cache import new_secret
from gateway.identity.proxies import TrustedProxies
from gateway.identity.tokens import TokenVerifier
from tests.identity.oidc import EC, OKP, RSA, FakeFetcher, auth, claims, public, token
from tests.identity.test_key_cache import key_of, ring_of
from tests.identity.test_proxies import AUTH as PROXY_AUTH

if TYPE_CHECKING:
    from collections.abc import Sequence

JWKS = "https://login.example/jwks"
NAMES = (
    b"Host Accept Accept-Encoding Content-Type User-Agent X-Stainless-Lang X-Stainless-OS X-Stainless-Arch "
    b"X-Stainless-Runtime Content-Length Connection"
)
USUAL = tuple((name, b"x" * 20) for name in NAMES.split())


def evidence_of(*headers: tuple[bytes, bytes], peer: str = "10.1.2.3") -> Credentials:
    return Credentials.of((*USUAL, *headers), peer)


async def measured(identity: Authenticators, evidences: Sequence[Credentials], rounds: int) -> float:
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(rounds):
            for credentials in evidences:
                await identity.identify(credentials)
        best = min(best, (time.process_time() - began) / (rounds * len(evidences)))
    return best * 1e6


def reading() -> float:
    headers = (*USUAL, (b"Authorization", b"Bearer " + new_secret().encode()))
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(20_000):
            Credentials.of(headers, "10.1.2.3")
        best = min(best, (time.process_time() - began) / 20_000)
    return best * 1e6


def tokens(most: int = 20_000) -> TokenVerifier:
    settings = auth(jwks_url=JWKS)
    return TokenVerifier(settings, Issuer(settings, FakeFetcher({JWKS: public(RSA, EC, OKP)})), max_cached=most)


def bearer(value: bytes) -> tuple[bytes, bytes]:
    return (b"Authorization", b"Bearer " + value)


async def main() -> None:
    secrets = [new_secret() for _ in range(10_000)]
    key_cache = ring_of(*[key_of(each) for each in secrets])
    by_key = [evidence_of(bearer(each.encode())) for each in secrets]
    pad = "x" * 400
    by_token = [evidence_of(bearer(token(OKP, claims(jti=n, pad=pad), "Ed25519"))) for n in range(1000)]
    size = len(by_token[0].candidates()[0])
    by_proxy = evidence_of((b"X-Forwarded-User", b"ada@corp.example"), (b"X-Forwarded-Groups", b"staff, audit"))
    everything = Authenticators(keys=key_cache, tokens=tokens(), proxies=TrustedProxies(PROXY_AUTH))
    rows = [
        ("reading the headers (12 of them)", reading()),
        ("open", await measured(Authenticators(is_open=True), by_key[:1000], 20)),
        ("keys, 10,000 in the ring", await measured(Authenticators(keys=key_cache), by_key, 3)),
        (f"jwt, known already ({size} B)", await measured(Authenticators(tokens=tokens()), by_token, 20)),
        ("header", await measured(Authenticators(proxies=TrustedProxies(PROXY_AUTH)), [by_proxy], 20_000)),
        ("keys, beside jwt and header", await measured(everything, by_key, 3)),
    ]
    for key, algorithm in ((RSA, "RS256"), (EC, "ES256"), (OKP, "EdDSA")):
        fresh = [evidence_of(bearer(token(key, claims(jti=n, pad=pad), algorithm))) for n in range(100)]
        # Two by turns in a memory for one, so that each is checked each time.
        rows.append(
            (f"jwt, checked anew, {algorithm}", await measured(Authenticators(tokens=tokens(most=1)), fresh, 2))
        )
    for name, cost in rows:
        print(f"{name:36} {cost:8.2f} µs")


if __name__ == "__main__":
    asyncio.run(main())
