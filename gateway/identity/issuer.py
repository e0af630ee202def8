"""An OpenID issuer's keys: fetched, cached, and fetched again for an unknown key id or after MAX_AGE_S. No HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from gateway.errors import IdentityUnavailable
from gateway.identity.jwks import KeySet
from gateway.identity.jws import TokenHeader, invalid_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.identity.jwks import Key
    from gateway.settings import AuthSettings

MAX_AGE_S = 600.0  # a withdrawn key stays valid for at most this time
MIN_FETCH_INTERVAL_S = 10.0  # tokens with invented key ids cannot cause more fetches
DISCOVERY = "/.well-known/openid-configuration"
log = structlog.get_logger()


class FetchError(Exception):
    """The document could not be fetched; the text gives the reason."""


class Fetcher(Protocol):
    async def get(self, url: str) -> dict[str, Any]:
        """A JSON object. Raises FetchError."""
        ...

    async def aclose(self) -> None: ...


class Issuer:
    """Finds the key that verifies a token.

    Keys stay valid while the issuer is down. There is one fetch at a time, and at most one in MIN_FETCH_INTERVAL_S.
    """

    def __init__(self, auth: AuthSettings, fetcher: Fetcher, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = auth.issuer or ""  # the settings require one
        self._jwks_url = auth.jwks_url
        self._algorithms = auth.algorithms
        self._fetcher = fetcher
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched_at = float("-inf")
        self._fetch_started_at = float("-inf")
        self._fault: str | None = None
        self._fetching: asyncio.Task[None] | None = None
        self.edition = 0  # incremented when the keys change

    async def key_for(self, header: TokenHeader) -> Key:
        """The key of a token. Raises NotAuthenticated for an unknown key, IdentityUnavailable before a fetch."""
        key = self._find_key(header)
        if key is None:
            await self._wait_for_fetch()
            key = self._find_key(header)
        if key is not None:
            return key
        if self._keys is None:
            raise IdentityUnavailable("tokens cannot be checked now: their issuer has not been reached yet")
        raise invalid_token("is signed with a key that the issuer does not publish")

    def refresh_if_old(self) -> None:
        """Starts a fetch in the background if the keys are old. Cheap: called for each token."""
        if self._clock() - self._fetched_at > MAX_AGE_S:
            self._start_fetch()

    def state(self) -> dict[str, Any]:
        """For readiness and metrics."""
        age = self._clock() - self._fetched_at
        return {
            "keys": len(self._keys) if self._keys is not None else 0,
            "age_s": round(age, 1) if self._keys is not None else None,
            "fault": self._fault,
        }

    async def aclose(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait((self._fetching,))
        await self._fetcher.aclose()

    def _find_key(self, header: TokenHeader) -> Key | None:
        return None if self._keys is None else self._keys.find(header.algorithm, header.kid)

    async def _wait_for_fetch(self) -> None:
        """Waits for the running fetch, or for a new one if MIN_FETCH_INTERVAL_S has passed."""
        fetching = self._start_fetch()
        if fetching is not None:
            await asyncio.wait((fetching,))  # not `await`: a cancelled caller must not cancel the fetch of the others

    def _start_fetch(self) -> asyncio.Task[None] | None:
        if self._fetching is None and self._clock() - self._fetch_started_at >= MIN_FETCH_INTERVAL_S:
            self._fetch_started_at = self._clock()
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            document = await self._fetcher.get(self._jwks_url or await self._discover_jwks_url())
            self._set_keys(KeySet(document, self._algorithms))
        except (FetchError, ValueError) as error:
            self._fault = str(error)
            log.warning("the issuer's keys could not be fetched", issuer=self._name, **self.state())
        finally:
            self._fetching = None

    def _set_keys(self, keys: KeySet) -> None:
        self._fetched_at = self._clock()
        self._fault = None if len(keys) else "the issuer publishes no usable key"
        if keys != self._keys:
            self._keys = keys
            self.edition += 1
            log.info("the issuer's keys are known", issuer=self._name, keys=len(keys))

    async def _discover_jwks_url(self) -> str:
        """URL of the issuer's keys (OpenID Connect Discovery 1.0). Raises FetchError."""
        document = await self._fetcher.get(self._name.rstrip("/") + DISCOVERY)
        if document.get("issuer") != self._name:
            raise FetchError(f"the discovery document is of another issuer than {self._name!r}")
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not url.startswith("https://" if self._name.startswith("https://") else "http"):
            raise FetchError("the discovery document has no usable `jwks_uri`")
        return url
