"""Which headers travel on. Pure; names are compared in lower case, values stay bytes as they came.

To the upstream goes what stands in a list, for a proxy in front may say anything of a caller. From the upstream comes
what does not stand in one.
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

# RFC 9110 section 7.6.1: these speak of one connection, not of the message.
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
# They say on whose account a call is made: without that account's credential they mean nothing, or another's account.
OF_ACCOUNTS = frozenset((b"openai-organization", b"openai-project", b"chatgpt-account-id"))
# Said anew for the next connection.
RENEWED = frozenset((b"host", b"content-length", b"accept-encoding", b"expect"))
# Meant for this gateway alone. No setting sends them on.
OURS = HOP_BY_HOP | COOKIES | RENEWED | frozenset((b"x-request-id", b"x-conversation-id"))

# What may travel, by who has a use for it; a name that ends in `*` stands for all that begin so. All lists hold for
# every call, since one upstream may speak several dialects.
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
MOST_RETRY_S = 60  # some SDKs sleep for as long as they are told
RETRY_AFTER_AS_SENT = b"x-upstream-retry-after"
# Of the connection, or of the upstream's own host: what a browser may do with this one is not the upstream's to say.
NOT_SENT_BACK = HOP_BY_HOP | frozenset(
    (
        b"content-length",
        b"set-cookie",
        b"set-cookie2",
        b"x-request-id",
        b"x-interaction-id",  # ids of this gateway's, not of another one behind it
        b"x-conversation-id",
        b"x-upstream-content-type",
        b"x-policy-outcome",  # what this gateway's policy did is its own to say
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
        # What a page may do in this gateway's origin.
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
        b"www-authenticate",  # a browser would ask for a password in this gateway's name
        b"x-permitted-cross-domain-policies",
        # Orders to a web server in front, which would send one of its files, or another URL's body.
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
OF_HOSTS = (
    b"access-control-",
    b"cross-origin-",
    b"sec-websocket-",
    b"sec-session-",
    b"attribution-reporting-",
    b"x-litespeed-",
)
# What lets a cache in front give one caller's answer to others (RFC 9111 section 3.5).
_FOR_ALL = re.compile(rb"public|s-maxage", re.IGNORECASE)
_TELLING = frozenset((b"retry-after", b"retry-after-ms", b"cache-control"))  # what they say is looked at
_MOST_PLANS = 128  # for the names of a request's headers, 64 kB of them at most


# What becomes of a caller's header; those above _OURS need a second look.
_SENT, _SENT_AS_IT_CAME, _OURS, _OF_ACCOUNT, _DROPPED = range(5)


class RequestHeaders:
    """Chooses the caller's headers that the upstream may see. One for the whole process.

    `more` are further names, or beginnings of names with a `*` behind them; `on_dropped` is told the names that stay
    here without being the gateway's own.
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
        self._beginnings = tuple(name[:-1] for name in allowed if name.endswith(b"*"))
        self._keep_credentials = keep_credentials
        self._on_dropped = on_dropped
        self._plan = lru_cache(_MOST_PLANS)(self._planned)

    def of(self, raw: Sequence[tuple[bytes, bytes]], *, is_decoded: bool = True) -> RawHeaders:
        """Of the caller's headers those that travel, as they came. A decoded body has no content coding any more."""
        names = tuple([name for name, _ in raw])
        kept, dropped, options = self._plan(names, b"", is_decoded)
        if options:
            kept, dropped, _ = self._plan(names, b",".join([raw[place][1] for place in options]), is_decoded)
        if dropped and self._on_dropped is not None:
            self._on_dropped(dropped)
        return tuple([raw[place] for place in kept])

    def _planned(
        self, names: Sequence[bytes], connection: bytes, is_decoded: bool
    ) -> tuple[tuple[int, ...], tuple[bytes, ...], tuple[int, ...]]:
        """The places of the headers that travel, the names of those that are dropped, and the places of `Connection`;
        callers send the same names again and again."""
        options = frozenset(option.strip().lower() for option in connection.split(b","))
        fates = [(place, name, self._decided(name)) for place, name in enumerate(names)]
        most = _SENT if is_decoded else _SENT_AS_IT_CAME
        kept = [place for place, name, fate in fates if fate <= most and name.lower() not in options]
        least = _OF_ACCOUNT
        if any(names[place].lower() in CREDENTIALS for place in kept):
            least = _DROPPED
            kept = [
                place
                for place, name, fate in fates
                if (fate <= most or fate == _OF_ACCOUNT) and name.lower() not in options
            ]
        named = tuple(place for place, name in enumerate(names) if name.lower() == b"connection")
        return tuple(kept), tuple(name for _, name, fate in fates if fate >= least), named

    def _decided(self, name: bytes) -> int:
        lower = name.lower()
        if lower in OURS or (lower in CREDENTIALS and not self._keep_credentials):
            return _OURS
        if lower in OF_ACCOUNTS:
            return _OF_ACCOUNT
        if lower == b"content-encoding":
            return _SENT_AS_IT_CAME
        is_allowed = lower in CREDENTIALS or lower in self._names or lower.startswith(self._beginnings)
        return _SENT if is_allowed else _DROPPED


def response_fields(head: Head) -> RawHeaders:
    """The upstream's headers that the caller may see."""
    headers = head.headers
    connection = b""
    if head.get(b"connection") is not None:
        connection = b",".join([value for name, value in headers if name == b"connection"])
    places, is_telling = _sent_back(tuple([name for name, _ in headers]), connection)
    kept = [headers[place] for place in places]
    if is_telling:
        kept = [each for header in kept for each in _within_reason(*header)]
        if any(name == b"cache-control" and _FOR_ALL.search(value) for name, value in kept):
            kept = [header for header in kept if header[0] != b"cache-control"] + [(b"cache-control", b"private")]
    return tuple(kept)


@lru_cache(_MOST_PLANS)
def _sent_back(names: Sequence[bytes], connection: bytes) -> tuple[tuple[int, ...], bool]:
    """The places of the headers that the caller may see, and whether one of them must be looked at."""
    options = frozenset(option.strip().lower() for option in connection.split(b","))
    places = tuple(place for place, name in enumerate(names) if _is_sent_back(name) and name not in options)
    return places, not _TELLING.isdisjoint([names[place] for place in places])


def _within_reason(name: bytes, value: bytes) -> RawHeaders:
    """A header as it is; one that tells a caller to wait for longer than a minute tells one to wait for a minute."""
    if name == b"retry-after-ms":
        most, wait = MOST_RETRY_S * 1000, _number(value)
    elif name == b"retry-after":
        most, wait = MOST_RETRY_S, _seconds(value)
    else:
        return ((name, value),)
    if wait is not None and wait <= most:
        return ((name, value),)
    return (name, b"%d" % most), (RETRY_AFTER_AS_SENT, value)


def _number(value: bytes) -> float | None:
    return float(value) if re.fullmatch(rb"-?[0-9]{1,12}(\.[0-9]{0,12})?", value) else None


def _seconds(value: bytes) -> float | None:
    """RFC 9110 section 10.2.3: seconds, or a date. None: nobody knows what a client makes of it."""
    number = _number(value)
    if number is not None:
        return number
    try:
        return parsedate_to_datetime(value.decode("ascii")).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None


def _is_sent_back(name: bytes) -> bool:
    return name not in NOT_SENT_BACK and not name.startswith(OF_HOSTS)


def as_text(fields: RawHeaders) -> list[tuple[str, str]]:
    """The same decoded, as aiohttp wants them."""
    return [(name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in fields]
