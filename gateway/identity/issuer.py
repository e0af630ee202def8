"""An OpenID issuer's keys: asked for once, kept, and asked for again when a token names an unknown one. No HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from gateway.errors import IdentityUnavailable
from gateway.identity.jwks import KeySet
from gateway.identity.jws import TokenHeader, invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.identity.jwks import Key
    from gateway.settings import AuthSettings

MAX_AGE_S = 600.0  # so long a key that the issuer has withdrawn may still count
PAUSE_S = 10.0  # between two questions to the issuer, whatever the tokens say
DISCOVERY = "/.well-known/openid-configuration"
log = structlog.get_logger()


class FetchError(Exception):
    """The document could not be had; the text says why."""


class Fetcher(Protocol):
    async def get(self, url: str) -> dict[str, Any]:
        """A JSON object. Raises FetchError."""
        ...

    async def aclose(self) -> None: ...


class Issuer:
    """Finds the key that a token is signed with.

    Known keys are kept however long the issuer is away. One question at a time goes to it, and at most one in PAUSE_S,
    however many tokens with invented key ids come.
    """

    def __init__(self, auth: AuthSettings, fetcher: Fetcher, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = auth.issuer or ""  # the settings see to it that there is one
        self._jwks_url = auth.jwks_url
        self._algorithms = auth.algorithms
        self._fetcher = fetcher
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched_at = float("-inf")
        self._asked_at = float("-inf")
        self._fault: str | None = None
        self._question: asyncio.Task[None] | None = None
        self.edition = 0  # grows with each change of the keys

    async def key_for(self, header: TokenHeader) -> Key:
        """Raises NotAuthenticated for a key that the issuer does not have, IdentityUnavailable while none is known."""
        key = self._find(header)
        if key is None:
            await self._ask()
            key = self._find(header)
        if key is not None:
            return key
        if self._keys is None:
            raise IdentityUnavailable("tokens cannot be checked now: their issuer has not been reached yet")
        raise invalid("is signed with a key that the issuer does not publish")

    def look_after(self) -> None:
        """Ask again in the background when the keys are old. Cheap; called for each token."""
        if self._clock() - self._fetched_at > MAX_AGE_S:
            self._begin()

    def state(self) -> dict[str, Any]:
        """For readiness and metrics."""
        age = self._clock() - self._fetched_at
        return {
            "keys": len(self._keys) if self._keys is not None else 0,
            "age_s": round(age, 1) if self._keys is not None else None,
            "fault": self._fault,
        }

    async def aclose(self) -> None:
        if self._question is not None:
            self._question.cancel()
            await asyncio.wait((self._question,))
        await self._fetcher.aclose()

    def _find(self, header: TokenHeader) -> Key | None:
        return None if self._keys is None else self._keys.find(header.algorithm, header.kid)

    async def _ask(self) -> None:
        """Wait for the question that is under way, or for a new one if the time for it has come."""
        question = self._begin()
        if question is not None:
            await asyncio.wait((question,))  # which leaves it to the others when this caller goes

    def _begin(self) -> asyncio.Task[None] | None:
        if self._question is None and self._clock() - self._asked_at >= PAUSE_S:
            self._asked_at = self._clock()
            self._question = asyncio.get_running_loop().create_task(self._fetch())
        return self._question

    async def _fetch(self) -> None:
        try:
            document = await self._fetcher.get(self._jwks_url or await self._discovered())
            self._take(KeySet(document, self._algorithms))
        except (FetchError, ValueError) as error:
            self._fault = str(error)
            log.warning("the issuer's keys could not be fetched", issuer=self._name, **self.state())
        finally:
            self._question = None

    def _take(self, keys: KeySet) -> None:
        self._fetched_at = self._clock()
        self._fault = None if len(keys) else "the issuer publishes no key that could be used"
        if keys != self._keys:
            self._keys = keys
            self.edition += 1
            log.info("the issuer's keys are known", issuer=self._name, keys=len(keys))

    async def _discovered(self) -> str:
        """Where the issuer says that its keys lie (OpenID Connect Discovery 1.0)."""
        document = await self._fetcher.get(self._name.rstrip("/") + DISCOVERY)
        if document.get("issuer") != self._name:
            raise FetchError(f"the discovery document is of another issuer than {self._name!r}")
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not url.startswith("https://" if self._name.startswith("https://") else "http"):
            raise FetchError("the discovery document has no usable `jwks_uri`")
        return url
