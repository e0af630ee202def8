"""An OpenID issuer on loopback, and tokens as it, or an attacker, would make them."""

from __future__ import annotations

import base64
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry, serialize_compact

from gateway.settings import AuthSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Key = RSAKey | ECKey | OKPKey

AUDIENCE = "llm-gateway"
ISSUER = "https://login.example/"
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig", "alg": "RS256"})
EC = ECKey.generate_key("P-256", {"kid": "ec", "use": "sig"})
OKP = OKPKey.generate_key("Ed25519", {"kid": "okp"})
OTHER_RSA = RSAKey.generate_key(2048, {"kid": "rsa2"})
ALGORITHMS = ("RS256", "RS384", "PS256", "ES256", "ES384", "Ed25519", "Ed448", "HS256")


def auth(issuer: str = ISSUER, **more: Any) -> AuthSettings:
    given: dict[str, Any] = {"modes": ("jwt",), "issuer": issuer, "audience": (AUDIENCE,), **more}
    return AuthSettings(**given)


def public(*keys: Key) -> dict[str, Any]:
    return {"keys": [dict(key.as_dict(private=False)) for key in keys]}


def claims(issuer: str = ISSUER, **more: Any) -> dict[str, Any]:
    """Good ones; `more` replaces some, None takes one out."""
    now = int(time.time())
    made = {"iss": issuer, "aud": AUDIENCE, "sub": "u-1", "email": "ada@corp.example", "iat": now, "exp": now + 600}
    return {name: value for name, value in {**made, **more}.items() if value is not None}


def token(key: Key, what: dict[str, Any] | bytes, algorithm: str = "RS256", **header: Any) -> bytes:
    """Signed as said. `header` adds to the token's own, None takes out."""
    full = {name: value for name, value in {"alg": algorithm, "kid": key.kid, **header}.items() if value is not None}
    if full["alg"] == "EdDSA":  # the library warns of the name when it signs; the signature is the same
        return resigned(token(key, what, "Ed25519", **{**header, "kid": full.get("kid")}), full, key)
    payload = what if isinstance(what, bytes) else json.dumps(what).encode()
    registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    registry.max_header_length = 1 << 20
    return serialize_compact(full, payload, key, registry=registry).encode()


def resigned(signed: bytes, header: dict[str, Any], key: Key) -> bytes:
    """The payload of another token under this header, signed with Ed25519."""
    body = b64(json.dumps(header).encode()) + b"." + signed.split(b".")[1]
    return body + b"." + b64(ed25519(body, key))


def ed25519(body: bytes, key: Key = OKP) -> bytes:
    private = key.private_key
    assert isinstance(private, Ed25519PrivateKey)
    return private.sign(body)


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def by_hand(header: dict[str, Any], what: dict[str, Any], sign: Callable[[bytes], bytes] = lambda _: b"") -> bytes:
    """A token with any header and any signature."""
    body = b64(json.dumps(header).encode()) + b"." + b64(json.dumps(what).encode())
    return body + b"." + b64(sign(body))


@dataclass
class FakeFetcher:
    """Documents by URL; counts what was asked for."""

    documents: dict[str, Any]
    asked: list[str] = field(default_factory=list)
    before: Callable[[str], Awaitable[None]] | None = None

    async def get(self, url: str) -> dict[str, Any]:
        self.asked.append(url)
        if self.before is not None:
            await self.before(url)
        found = self.documents[url]
        if isinstance(found, Exception):
            raise found
        return dict(found)

    async def aclose(self) -> None:
        return None


@dataclass
class Provider:
    """A real HTTP server. `answer` may stand in for what it says at a path."""

    url: str = ""
    keys: tuple[Key, ...] = (RSA,)
    asked: list[str] = field(default_factory=list)
    answers: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(default_factory=dict)
    runner: web.AppRunner | None = None
    port: int = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()
        self.port = self.runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.path in self.answers:
            return await self.answers[request.path](request)
        if request.path == "/.well-known/openid-configuration":
            return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/jwks"})
        if request.path == "/jwks":
            return web.json_response(public(*self.keys))
        raise web.HTTPNotFound


@asynccontextmanager
async def running_provider() -> AsyncIterator[Provider]:
    provider = Provider()
    await provider.start()
    try:
        yield provider
    finally:
        await provider.stop()
