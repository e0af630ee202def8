"""Opens and closes the authenticators that the settings name, with their key cache and issuer."""

from __future__ import annotations

import hashlib
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from gateway.identity.authenticators import Authenticators
from gateway.identity.fetching import HttpFetcher
from gateway.identity.issuer import Issuer
from gateway.identity.key_cache import KeyCache
from gateway.identity.key_cache_file import KeyCacheFile
from gateway.identity.key_refresh import KeyRefresh
from gateway.identity.proxies import TrustedProxies
from gateway.identity.tokens import TokenVerifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.identity.key_refresh import KeySource
    from gateway.settings import Settings

FILE_NAME = "keys.json"


@dataclass(frozen=True, slots=True)
class Authentication:
    """The authenticators, with the key refresh and the issuer behind them, if the modes need them."""

    authenticators: Authenticators
    key_refresh: KeyRefresh | None
    issuer: Issuer | None

    async def keys_changed(self) -> None:
        """Reloads the keys after a change by this process."""
        if self.key_refresh is not None:
            await self.key_refresh.refresh()

    def state(self) -> dict[str, Any]:
        """State of keys and issuer, for readiness and metrics."""
        state: dict[str, Any] = {}
        if self.key_refresh is not None:
            state["keys"] = self.key_refresh.state()
        if self.issuer is not None:
            state["issuer"] = self.issuer.state()
        return state


@asynccontextmanager
async def open_authentication(settings: Settings, source: KeySource) -> AsyncIterator[Authentication]:
    """Opens the modes of the settings. PostgreSQL and the issuer may be down: their keys are loaded later."""
    auth = settings.auth
    admin = bytes.fromhex(auth.admin_key.reveal()) if auth.admin_key is not None else None
    key_cache = KeyCache(admin=admin) if "keys" in auth.modes else None
    key_refresh = issuer = None
    async with AsyncExitStack() as stack:
        if key_cache is not None:
            file = KeyCacheFile(settings.data_dir / FILE_NAME, database_id(settings))
            key_refresh = KeyRefresh(key_cache, source, file, every_s=auth.keys_refresh_s)
            stack.push_async_callback(key_refresh.aclose)
            await key_refresh.start()
        if "jwt" in auth.modes:
            issuer = Issuer(auth, HttpFetcher(settings.proxy_for))
            stack.push_async_callback(issuer.aclose)
            issuer.refresh_if_old()  # so that the first token does not wait
        authenticators = Authenticators(
            is_open=auth.is_open,
            keys=key_cache,
            tokens=TokenVerifier(auth, issuer) if issuer is not None else None,
            proxies=TrustedProxies(auth) if "header" in auth.modes else None,
        )
        yield Authentication(authenticators, key_refresh, issuer)


def database_id(settings: Settings) -> str:
    """Digest that identifies the keys' database. The password is not part of it: a new one changes no keys."""
    if settings.store.url is None:
        place = f"embedded {settings.data_dir}"
    else:
        parts = urlsplit(settings.store.url.reveal())
        query = parse_qs(parts.query)
        named = {name: query.get(name) for name in ("host", "port", "dbname", "database")}
        place = f"{parts.netloc.rpartition('@')[2]} {parts.path} {named}"
    return hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()
