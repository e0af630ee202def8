"""Makes the modes that the settings name, with what stands behind each, and closes them again."""

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
from gateway.identity.proxies import Proxies
from gateway.identity.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.identity.key_refresh import KeySource
    from gateway.settings import Settings

FILE_NAME = "keys.json"


@dataclass(frozen=True, slots=True)
class IdentityModes:
    """Identity, with the watch and the issuer behind it where there are such."""

    identity: Authenticators
    watch: KeyRefresh | None
    issuer: Issuer | None

    async def keys_changed(self) -> None:
        """To be awaited after this process has changed keys."""
        if self.watch is not None:
            await self.watch.look()

    def state(self) -> dict[str, Any]:
        """For readiness and metrics; nothing for modes that need nothing."""
        found: dict[str, Any] = {}
        if self.watch is not None:
            found["keys"] = self.watch.state()
        if self.issuer is not None:
            found["issuer"] = self.issuer.state()
        return found


@asynccontextmanager
async def open_modes(settings: Settings, source: KeySource) -> AsyncIterator[IdentityModes]:
    """Starts without Postgres and without the issuer, if need be: what they would tell is then told later."""
    auth = settings.auth
    admin = bytes.fromhex(auth.admin_key.reveal()) if auth.admin_key is not None else None
    ring = KeyCache(admin=admin) if "keys" in auth.modes else None
    watch = issuer = None
    async with AsyncExitStack() as stack:
        if ring is not None:
            file = KeyCacheFile(settings.data_dir / FILE_NAME, place_of(settings))
            watch = KeyRefresh(ring, source, file, every_s=auth.keys_refresh_s)
            stack.push_async_callback(watch.aclose)
            await watch.start()
        if "jwt" in auth.modes:
            issuer = Issuer(auth, HttpFetcher(settings.proxy_for))
            stack.push_async_callback(issuer.aclose)
            issuer.look_after()  # so that the first token need not wait
        identity = Authenticators(
            is_open=auth.is_open,
            keys=ring,
            tokens=Tokens(auth, issuer) if issuer is not None else None,
            proxies=Proxies(auth) if "header" in auth.modes else None,
        )
        yield IdentityModes(identity, watch, issuer)


def place_of(settings: Settings) -> str:
    """Which database the keys are of, without its password: a new password makes no other database."""
    if settings.store.url is None:
        place = f"embedded {settings.data_dir}"
    else:
        parts = urlsplit(settings.store.url.reveal())
        query = parse_qs(parts.query)
        named = {name: query.get(name) for name in ("host", "port", "dbname", "database")}
        place = f"{parts.netloc.rpartition('@')[2]} {parts.path} {named}"
    return hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()
