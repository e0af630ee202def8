"""Chooses the headers that the gateway passes on. Pure; names are compared in lower case, values stay bytes.

An allow-list names the headers that go to the upstream, because a proxy in front may add any statement about a caller.
A deny-list names the upstream's headers that do not go to the caller.
"""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gateway.transport.call import Head, RawHeaders

# RFC 9110 section 7.6.1: these are about one connection, not about the message.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
COOKIES = frozenset((b"cookie", b"cookie2"))
CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"))
# They name the account of a call. Without that account's credential they mean nothing, or name another account.
ACCOUNT_HEADERS = frozenset((b"openai-organization", b"openai-project", b"chatgpt-account-id"))
# Made anew for the next connection.
REGENERATED = frozenset((b"host", b"content-length", b"accept-encoding", b"expect"))
# For this gateway alone. No setting passes them on.
NEVER_SENT = HOP_BY_HOP | COOKIES | REGENERATED | frozenset((b"x-request-id", b"x-conversation-id"))

# Headers that may be passed on, by their use. A name that ends in `*` is a prefix. All lists hold for every call, since
# one upstream may serve several dialects.
ALLOWED: dict[str, tuple[str, ...]] = {
    "any": (
        "accept",
        "content-type",
        "content-language",
        "user-agent",
        "idempotency-key",
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "traceparent",
        "tracestate",
        "x-client-request-id",
        "x-stainless-*",
    ),
    "openai": ("openai-*", "x-openai-client-user-agent", "x-openai-subagent", "x-goog-api-client"),
    "anthropic": ("anthropic-*", "x-anthropic-*", "x-app", "x-claude-*", "x-client-app"),
    "azure": ("x-ms-client-request-id", "x-ms-useragent"),
    "openrouter": ("http-referer", "x-title", "x-openrouter-title", "x-openrouter-categories"),
    "agents": (
        "originator",
        "version",
        "session_id",
        "session-id",
        "x-session-id",
        "x-session-affinity",
        "x-parent-session-id",
        "conversation_id",
        "thread_id",
        "thread-id",
        "x-codex-*",
        "x-responsesapi-include-timing-metrics",
        "x-opencode-session",
        "x-opencode-request",
        "x-opencode-project",
        "x-opencode-client",
        "x-grok-conv-id",
    ),
}
MAX_RETRY_S = 60  # some SDKs sleep for as long as the header says
RETRY_AFTER_AS_SENT = b"x-upstream-retry-after"
# About the connection or the upstream's own host: the upstream must not decide what a browser does with this host.
NOT_SENT_BACK = HOP_BY_HOP | frozenset(
    (
        b"content-length",
        b"set-cookie",
        b"set-cookie2",
        b"x-request-id",
        b"x-interaction-id",  # ids of this gateway, not of another one behind it
        b"x-conversation-id",
        b"x-upstream-content-type",
        b"x-policy-outcome",  # about the policy of this gateway alone
        b"x-policy-rule",
        RETRY_AFTER_AS_SENT,
        b"date",
        b"via",
        b"server",
        b"alt-svc",
        b"strict-transport-security",
        b"clear-site-data",
        b"nel",
        b"report-to",
        b"reporting-endpoints",
        # Permissions of a page in this gateway's origin.
        b"content-security-policy",
        b"content-security-policy-report-only",
        b"x-content-type-options",
        b"x-frame-options",
        b"x-xss-protection",
        b"service-worker-allowed",
        b"permissions-policy",
        b"feature-policy",
        b"document-policy",
        b"origin-agent-cluster",
        b"refresh",
        b"sourcemap",
        b"x-sourcemap",
        b"speculation-rules",
        b"supports-loading-mode",
        b"accept-ch",
        b"critical-ch",
        b"timing-allow-origin",
        b"set-login",
        b"login-status",
        b"activate-storage-access",
        b"observe-browsing-topics",
        b"use-as-dictionary",
        b"integrity-policy",
        b"integrity-policy-report-only",
        b"require-document-policy",
        b"public-key-pins",
        b"expect-ct",
        b"www-authenticate",  # a browser would ask for a password of this gateway
        b"x-permitted-cross-domain-policies",
        # Commands to a web server in front, which would send one of its files, or the body of another URL.
        b"x-accel-redirect",
        b"x-accel-charset",
        b"x-accel-expires",
        b"x-accel-limit-rate",
        b"x-sendfile",
        b"x-sendfile-type",
        b"x-lighttpd-send-file",
        b"x-lighttpd-send-tempfile",
        b"x-reproxy-url",
        b"surrogate-control",
        b"cdn-cache-control",
    )
)
HOST_PREFIXES = (
    b"access-control-",
    b"cross-origin-",
    b"sec-websocket-",
    b"sec-session-",
    b"attribution-reporting-",
    b"x-litespeed-",
)
# Lets a cache in front give one caller's answer to others (RFC 9111 section 3.5).
_SHARED_CACHE = re.compile(rb"public|s-maxage", re.IGNORECASE)
_CHECKED = frozenset((b"retry-after", b"retry-after-ms", b"cache-control"))  # their values are checked
_MAX_PLANS = 128  # in the cache; the names of a request's headers have at most 64 kB


# The decision on a caller's header; it may depend on the others for those above _OURS.
_SENT, _SENT_WITH_CODING, _OURS, _OF_ACCOUNT, _DROPPED = range(5)


class RequestHeaders:
    """Chooses the caller's headers that the upstream may see. One for the whole process.

    `more` are further names, or prefixes with a `*` behind them. `on_dropped` gets the names that are not passed on and
    are not the gateway's own.
    """

    def __init__(
        self,
        more: Iterable[str] = (),
        *,
        keep_credentials: bool = False,
        on_dropped: Callable[[Sequence[bytes]], None] | None = None,
    ) -> None:
        allowed = [name.lower().encode("ascii") for names in (*ALLOWED.values(), more) for name in names]
        self._names = frozenset(name for name in allowed if not name.endswith(b"*"))
        self._prefixes = tuple(name[:-1] for name in allowed if name.endswith(b"*"))
        self._keep_credentials = keep_credentials
        self._on_dropped = on_dropped
        self._plan = lru_cache(_MAX_PLANS)(self._new_plan)

    def of(self, raw: Sequence[tuple[bytes, bytes]], *, is_decoded: bool = True) -> RawHeaders:
        """The caller's headers that are passed on, unchanged. A decoded body has no content coding any more."""
        names = tuple([name for name, _ in raw])
        kept, dropped, options = self._plan(names, b"", is_decoded)
        if options:
            kept, dropped, _ = self._plan(names, b",".join([raw[position][1] for position in options]), is_decoded)
        if dropped and self._on_dropped is not None:
            self._on_dropped(dropped)
        return tuple([raw[position] for position in kept])

    def _new_plan(
        self, names: Sequence[bytes], connection: bytes, is_decoded: bool
    ) -> tuple[tuple[int, ...], tuple[bytes, ...], tuple[int, ...]]:
        """Positions of the headers that are passed on, names of the dropped ones, and positions of `Connection`.

        Cached, because callers send the same names again and again.
        """
        options = frozenset(option.strip().lower() for option in connection.split(b","))
        decisions = [(position, name, self._decision(name)) for position, name in enumerate(names)]
        sent_up_to = _SENT if is_decoded else _SENT_WITH_CODING
        kept = [at for at, name, decision in decisions if decision <= sent_up_to and name.lower() not in options]
        dropped_from = _OF_ACCOUNT
        if any(names[position].lower() in CREDENTIALS for position in kept):
            dropped_from = _DROPPED
            kept = [
                position
                for position, name, decision in decisions
                if (decision <= sent_up_to or decision == _OF_ACCOUNT) and name.lower() not in options
            ]
        named = tuple(position for position, name in enumerate(names) if name.lower() == b"connection")
        return tuple(kept), tuple(name for _, name, decision in decisions if decision >= dropped_from), named

    def _decision(self, name: bytes) -> int:
        lower = name.lower()
        if lower in NEVER_SENT or (lower in CREDENTIALS and not self._keep_credentials):
            return _OURS
        if lower in ACCOUNT_HEADERS:
            return _OF_ACCOUNT
        if lower == b"content-encoding":
            return _SENT_WITH_CODING
        is_allowed = lower in CREDENTIALS or lower in self._names or lower.startswith(self._prefixes)
        return _SENT if is_allowed else _DROPPED


def response_fields(head: Head) -> RawHeaders:
    """The upstream's headers that the caller may see."""
    headers = head.headers
    connection = b""
    if head.get(b"connection") is not None:
        connection = b",".join([value for name, value in headers if name == b"connection"])
    positions, is_checked = _sent_back(tuple([name for name, _ in headers]), connection)
    kept = [headers[position] for position in positions]
    if is_checked:
        kept = [each for header in kept for each in _limited(*header)]
        if any(name == b"cache-control" and _SHARED_CACHE.search(value) for name, value in kept):
            kept = [header for header in kept if header[0] != b"cache-control"] + [(b"cache-control", b"private")]
    return tuple(kept)


@lru_cache(_MAX_PLANS)
def _sent_back(names: Sequence[bytes], connection: bytes) -> tuple[tuple[int, ...], bool]:
    """Positions of the headers that the caller may see, and whether the value of one must be checked."""
    options = frozenset(option.strip().lower() for option in connection.split(b","))
    positions = tuple(position for position, name in enumerate(names) if _is_sent_back(name) and name not in options)
    return positions, not _CHECKED.isdisjoint([names[position] for position in positions])


def _limited(name: bytes, value: bytes) -> RawHeaders:
    """A header unchanged, or limited to `MAX_RETRY_S` with the original value in another header."""
    if name == b"retry-after-ms":
        limit, wait = MAX_RETRY_S * 1000, _number(value)
    elif name == b"retry-after":
        limit, wait = MAX_RETRY_S, _seconds(value)
    else:
        return ((name, value),)
    if wait is not None and wait <= limit:
        return ((name, value),)
    return (name, b"%d" % limit), (RETRY_AFTER_AS_SENT, value)


def _number(value: bytes) -> float | None:
    return float(value) if re.fullmatch(rb"-?[0-9]{1,12}(\.[0-9]{0,12})?", value) else None


def _seconds(value: bytes) -> float | None:
    """The seconds in a Retry-After, which may be a date (RFC 9110 section 10.2.3). None: it is malformed."""
    number = _number(value)
    if number is not None:
        return number
    try:
        return parsedate_to_datetime(value.decode("ascii")).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None


def _is_sent_back(name: bytes) -> bool:
    return name not in NOT_SENT_BACK and not name.startswith(HOST_PREFIXES)


def as_text(fields: RawHeaders) -> list[tuple[str, str]]:
    """The headers as text, for aiohttp."""
    return [(name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in fields]
