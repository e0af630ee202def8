"""Faults between settings: each value is valid, and the combination is not. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.settings.kinds import is_loopback, redacted_url, size_text
from gateway.settings.values import base_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.settings.groups import AuthSettings, SubmissionsSettings
    from gateway.settings.values import Settings


def consistency_faults(settings: Settings, valid: set[str]) -> Iterator[str]:
    """One sentence for each fault. `valid`: names of the settings that could be read."""
    upstream, journal, store = settings.upstream, settings.journal, settings.store
    yield from _open_faults(settings, valid)
    yield from _auth_faults(settings.auth, valid)
    if upstream.endpoint and upstream.base_url and base_of(upstream.endpoint) != upstream.base_url:
        yield (
            "LLM_ENDPOINT (upstream.endpoint) and OPENAI_BASE_URL (upstream.base_url): "
            f"{redacted_url(upstream.endpoint)!r} is not below {upstream.base_url!r}; set only one of them"
        )
    urls = {"upstream.endpoint", "upstream.base_url", "upstream.image_endpoint"}
    if upstream.authorization and urls <= valid and settings.image_url is None:
        yield (
            "LLM_API_AUTHORIZATION (upstream.authorization): (hidden) is set, but nothing says where to send it; "
            "set LLM_ENDPOINT (upstream.endpoint) or OPENAI_BASE_URL (upstream.base_url)"
        )
    if {"journal.max_bytes", "journal.segment_bytes"} <= valid and journal.max_bytes < 4 * journal.segment_bytes:
        yield (
            f"GATEWAY_JOURNAL_MAX_BYTES (journal.max_bytes): {size_text(journal.max_bytes)} is less than four times "
            f"GATEWAY_JOURNAL_SEGMENT_BYTES (journal.segment_bytes), which is {size_text(journal.segment_bytes)}"
        )
    yield from _submissions_faults(settings.submissions, valid)
    if {"store.pool_min", "store.pool_max"} <= valid and store.pool_min > store.pool_max:
        yield (
            f"GATEWAY_POOL_MIN (store.pool_min): {store.pool_min} is more than "
            f"GATEWAY_POOL_MAX (store.pool_max), which is {store.pool_max}"
        )


def _submissions_faults(submissions: SubmissionsSettings, valid: set[str]) -> Iterator[str]:
    if submissions.enabled and "submissions.url" in valid and submissions.url is None:
        yield (
            "SUBMISSIONS_API_URL (submissions.url): not set, and ENABLE_SUBMISSIONS_API (submissions.enabled) is true, "
            "which needs it"
        )


def _open_faults(settings: Settings, valid: set[str]) -> Iterator[str]:
    server = settings.server
    are_valid = {"server.host", "server.allow_open", "auth.modes"} <= valid
    if are_valid and settings.auth.is_open and not is_loopback(server.host) and not server.allow_open:
        yield (
            f"GATEWAY_HOST (server.host): {server.host!r} accepts other machines, and nobody has to log in: everybody "
            "who reaches it can use the model. Require a login with GATEWAY_AUTH=keys, jwt or header (auth.modes), "
            "listen on 127.0.0.1, or confirm this with GATEWAY_ALLOW_OPEN=true (server.allow_open)"
        )


def _auth_faults(auth: AuthSettings, valid: set[str]) -> Iterator[str]:
    """Modes without their required settings, and settings of a mode that is not on."""
    if "auth.modes" not in valid:
        return
    if auth.own_keys_s and "keys" not in auth.modes:
        yield (
            "GATEWAY_AUTH_OWN_KEYS_S (auth.own_keys_s): it is set, but GATEWAY_AUTH (auth.modes) does not include "
            "keys, so that the gateway would accept no key"
        )
    if auth.admin_key and "keys" not in auth.modes:
        yield (
            "GATEWAY_ADMIN_KEY (auth.admin_key): it is set, but GATEWAY_AUTH (auth.modes) does not include keys, "
            "so that the gateway would not accept it"
        )
    for mode, needed in (("jwt", ("issuer", "audience")), ("header", ("trusted_networks",))):
        for key in needed:
            name, is_set = f"auth.{key}", bool(getattr(auth, key))
            env = f"GATEWAY_AUTH_{key.upper()}"
            if name in valid and mode in auth.modes and not is_set:
                yield f"{env} ({name}): not set, and GATEWAY_AUTH (auth.modes) has {mode}, which needs it"
            if is_set and mode not in auth.modes:
                yield f"{env} ({name}): it is set, but GATEWAY_AUTH (auth.modes) does not include {mode}"
    fetched = auth.jwks_url or auth.issuer
    if {"auth.jwks_url", "auth.issuer"} <= valid and "jwt" in auth.modes and fetched and not _is_safe(fetched):
        yield (
            f"GATEWAY_AUTH_ISSUER (auth.issuer) or GATEWAY_AUTH_JWKS_URL (auth.jwks_url): {redacted_url(fetched)!r} is "
            "not https, so that an attacker on the network could forge tokens; only loopback may use http"
        )


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")
