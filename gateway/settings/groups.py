"""The settings by group: one row each, with environment names, default, reader and description.

These dataclasses are the only list of settings: loading, `llm-gateway check` and the table of deploy/docs/settings.md
are made from their fields.
"""

# ruff: noqa: RUF009 - `setting` makes a dataclass field, and no mutable default

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.settings import readers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gateway.settings.kinds import Reader
    from gateway.settings.readers import Network
    from gateway.settings.secret import Secret

OPENAI_BASE = "https://api.openai.com/v1"


def setting(
    env: str, default: object, reader: Reader, description: str, default_text: str = "", *, in_repr: bool = True
) -> Any:  # of the field's type; the reader checks it when the settings are loaded
    """One setting. `env`: its environment names, separated by spaces; the first one is documented. `default_text`
    replaces the default in the documentation."""
    metadata = {"env": tuple(env.split()), "reader": reader, "description": description, "default_text": default_text}
    return field(default=default, repr=in_repr, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The listener, and its limits for callers."""

    host: str = setting("GATEWAY_HOST", "127.0.0.1", readers.HOST, "Address to listen on.")
    port: int = setting("GATEWAY_PORT", 8000, readers.PORT, "Port to listen on; 0 takes any free port.")
    workers: int = setting("GATEWAY_WORKERS", 1, readers.WORKERS, "Processes that share the port, one per core.")
    allow_open: bool = setting(
        "GATEWAY_ALLOW_OPEN", False, readers.FLAG, "Accept other machines even though nobody has to log in."
    )
    public_url: str | None = setting(
        "GATEWAY_PUBLIC_URL", None, readers.PLAIN_URL, "URL under which people reach the gateway."
    )
    allowed_hosts: tuple[str, ...] = setting(
        "GATEWAY_ALLOWED_HOSTS",
        (),
        readers.HOSTS,
        "Further host names that browsers may use without a key. The public URL's host, localhost and IP addresses "
        "are always allowed.",
        "none",
    )
    heartbeat_s: float = setting(
        "GATEWAY_HEARTBEAT_S", 15.0, readers.SECONDS, "Silence in a stream after which the gateway sends a comment."
    )
    shutdown_s: float = setting(
        "GATEWAY_SHUTDOWN_S", 30.0, readers.SECONDS, "Time for running streams to finish at shutdown."
    )
    max_body_bytes: int = setting(
        "GATEWAY_MAX_BODY_BYTES", 32 << 20, readers.BODY_SIZE, "Largest JSON body, after decompression."
    )
    max_depth: int = setting("GATEWAY_MAX_DEPTH", 100, readers.DEPTH, "Deepest nesting of a JSON body.")
    body_timeout_s: float = setting(
        "GATEWAY_BODY_TIMEOUT_S", 60.0, readers.SECONDS, "Time in which a caller must send its body."
    )
    keepalive_s: float = setting(
        "GATEWAY_KEEPALIVE_S", 75.0, readers.SECONDS, "Time for which an idle connection stays open."
    )
    client_stall_s: float = setting(
        "GATEWAY_CLIENT_STALL_S", 300.0, readers.SECONDS, "Time for which a caller may read nothing of its answer."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """Authentication of callers, and their roles."""

    modes: tuple[str, ...] = setting(
        "GATEWAY_AUTH",
        ("open",),
        readers.AUTH_MODES,
        "How callers authenticate, one or several: `open` (everybody is the local user), `keys`, `jwt` (OIDC), "
        "`header` (set by a proxy).",
    )
    admin_key: Secret | None = setting(
        "GATEWAY_ADMIN_KEY",
        None,
        readers.ADMIN_KEY,
        "The first key. Its user `admin` is admin and auditor. At least 32 random characters; needs `keys`.",
    )
    keys_refresh_s: float = setting(
        "GATEWAY_AUTH_KEYS_REFRESH_S", 2.0, readers.SECONDS, "Interval at which changed keys are loaded."
    )
    own_keys_s: float = setting(
        "GATEWAY_AUTH_OWN_KEYS_S",
        0.0,
        readers.SECONDS_OR_NONE,
        "Lifetime of the keys that users create for themselves; 0: users cannot create keys.",
    )
    issuer: str | None = setting(
        "GATEWAY_AUTH_ISSUER", None, readers.ISSUER, "The OpenID issuer, exactly as in the claim `iss`."
    )
    audience: tuple[str, ...] = setting(
        "GATEWAY_AUTH_AUDIENCE", (), readers.NAMES, "A token's `aud` must contain one of these.", "none"
    )
    jwks_url: str | None = setting(
        "GATEWAY_AUTH_JWKS_URL", None, readers.ENDPOINT, "URL of the issuer's keys.", "discovered from the issuer"
    )
    algorithms: tuple[str, ...] = setting(
        "GATEWAY_AUTH_ALGORITHMS", ("EdDSA", "ES256", "RS256"), readers.ALGORITHMS, "Accepted signature algorithms."
    )
    leeway_s: float = setting(
        "GATEWAY_AUTH_LEEWAY_S", 30.0, readers.LEEWAY, "Accepted clock difference between issuer and gateway."
    )
    user_claim: str = setting("GATEWAY_AUTH_USER_CLAIM", "email", readers.NAME, "Claim that names the user.")
    title_claim: str = setting(
        "GATEWAY_AUTH_TITLE_CLAIM", "title", readers.NAME, "Claim that holds the user's job title."
    )
    groups_claim: str = setting(
        "GATEWAY_AUTH_GROUPS_CLAIM",
        "groups",
        readers.NAME,
        "Claim that holds the user's groups; `a.b` means `b` inside `a`.",
    )
    auditor_groups: tuple[str, ...] = setting(
        "GATEWAY_AUTH_AUDITOR_GROUPS", (), readers.NAMES, "Groups whose members may read all users' messages.", "none"
    )
    admin_groups: tuple[str, ...] = setting(
        "GATEWAY_AUTH_ADMIN_GROUPS", (), readers.NAMES, "Groups whose members manage keys.", "none"
    )
    trusted_networks: tuple[Network, ...] = setting(
        "GATEWAY_AUTH_TRUSTED_NETWORKS", (), readers.NETWORKS, "Networks of the proxies that log users in.", "none"
    )
    user_header: str = setting(
        "GATEWAY_AUTH_USER_HEADER", "X-Forwarded-User", readers.HEADER_NAME, "The proxy's header that names the user."
    )
    title_header: str | None = setting(
        "GATEWAY_AUTH_TITLE_HEADER", None, readers.HEADER_NAME, "The proxy's header that holds the user's job title."
    )
    groups_header: str | None = setting(
        "GATEWAY_AUTH_GROUPS_HEADER", None, readers.HEADER_NAME, "The proxy's header that lists the user's groups."
    )

    @property
    def is_open(self) -> bool:
        return "open" in self.modes


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """The model's API. The repr leaves out URLs that may contain a credential."""

    endpoint: str | None = setting(
        "LLM_ENDPOINT",
        None,
        readers.ENDPOINT,
        "Complete URL of a chat-completions endpoint.",
        "the demo model",
        in_repr=False,
    )
    base_url: str | None = setting(
        "OPENAI_BASE_URL",
        None,
        readers.BASE_URL,
        "Base URL of an OpenAI-compatible API.",
        f"{OPENAI_BASE} with OPENAI_API_KEY",
    )
    image_endpoint: str | None = setting(
        "LLM_IMG_ENDPOINT",
        None,
        readers.ENDPOINT,
        "Complete URL of an image endpoint.",
        "below the base URL",
        in_repr=False,
    )
    authorization: Secret | None = setting(
        "LLM_API_AUTHORIZATION",
        None,
        readers.HEADER_SECRET,
        "Value of the Authorization header sent upstream.",
    )
    api_key: Secret | None = setting(
        "OPENAI_API_KEY", None, readers.HEADER_SECRET, "Key sent as `Bearer …` if no authorization is set."
    )
    content_type: str | None = setting(
        "LLM_API_CONTENT_TYPE",
        None,
        readers.MEDIA_TYPE,
        "Content-Type of chat and image requests sent upstream.",
        "the caller's",
    )
    connect_s: float = setting(
        "GATEWAY_UPSTREAM_CONNECT_S", 10.0, readers.SECONDS, "Time for a connection to the upstream."
    )
    head_s: float = setting(
        "GATEWAY_UPSTREAM_HEAD_S", 300.0, readers.SECONDS, "Time until the head of an answer arrives."
    )
    stall_s: float = setting("GATEWAY_UPSTREAM_STALL_S", 120.0, readers.SECONDS, "Longest silence within an answer.")
    idle_s: float = setting(
        "GATEWAY_UPSTREAM_IDLE_S",
        20.0,
        readers.SECONDS,
        "Time for which an idle upstream connection stays open.",
    )
    max_answer_bytes: int = setting(
        "GATEWAY_MAX_ANSWER_BYTES", 64 << 20, readers.BODY_SIZE, "Largest accepted chat answer."
    )
    token_prices: tuple[tuple[str, tuple[float, float, float]], ...] = setting(
        "GATEWAY_TOKEN_PRICES",
        (),
        readers.TOKEN_PRICES,
        "Prices of models in USD per million tokens, as `model=prompt/answer` or `model=prompt/cached/answer`; "
        "0 is free.",
        "the providers' list prices",
    )
    ask_usage: bool = setting(
        "GATEWAY_ASK_USAGE", True, readers.FLAG, "Request token usage from the upstream if the caller does not."
    )
    pass_credentials: bool = setting(
        "GATEWAY_PASS_CREDENTIALS", False, readers.FLAG, "Send the caller's own credentials upstream, if there are any."
    )
    pass_headers: tuple[str, ...] = setting(
        "GATEWAY_PASS_HEADERS",
        (),
        readers.HEADER_PATTERNS,
        "Further headers of callers that are sent upstream, beside those of OpenAI's, Anthropic's and known agents' "
        "APIs; `x-corp-*` matches every name with that prefix.",
        "none",
    )
    proxy: str | None = setting(
        "HTTPS_PROXY https_proxy", None, readers.PROXY, "HTTP proxy for upstreams with an https URL.", in_repr=False
    )
    no_proxy: str | None = setting(
        "NO_PROXY no_proxy", None, readers.HOST_LIST, "Hosts that are reached without the proxy."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """The built-in model of a first run."""

    words_per_second: float = setting(
        "GATEWAY_DEMO_WORDS_PER_SECOND", 25.0, readers.RATE, "Speed of the demo model's answers."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings:
    """The local journal, which holds records until PostgreSQL has them."""

    directory: Path | None = setting(
        "GATEWAY_JOURNAL_DIR", None, readers.PATH, "Directory of the journal.", "`journal` in the data directory"
    )
    sync: str = setting(
        "GATEWAY_JOURNAL_SYNC",
        "group",
        readers.SYNC,
        "When records are synced to disk: `group`: before an answer ends; `interval`: 50 ms later; `none`: whenever "
        "the kernel writes them.",
    )
    when_full: str = setting(
        "GATEWAY_JOURNAL_WHEN_FULL",
        "refuse",
        readers.WHEN_FULL,
        "If the journal is full: `refuse` new requests, or `serve` them and keep their records in memory.",
    )
    max_bytes: int = setting("GATEWAY_JOURNAL_MAX_BYTES", 4 << 30, readers.SIZE, "Largest size of the journal.")
    min_free_bytes: int = setting(
        "GATEWAY_JOURNAL_MIN_FREE_BYTES", 256 << 20, readers.SIZE, "Disk space that the journal leaves free."
    )
    segment_bytes: int = setting(
        "GATEWAY_JOURNAL_SEGMENT_BYTES", 32 << 20, readers.SEGMENT_SIZE, "Size at which a new segment file begins."
    )
    shipped_s: float = setting(
        "GATEWAY_JOURNAL_SHIPPED_S",
        3600.0,
        readers.SECONDS_OR_NONE,
        "Time for which shipped segments are kept, so that PostgreSQL can get them again after a restore or a "
        "failover. They are deleted earlier if space is short.",
    )
    inline_bytes: int = setting(
        "GATEWAY_INLINE_BYTES",
        1 << 20,
        readers.INLINE_SIZE,
        "Larger bodies of other `/v1` calls are recorded as size and digest only.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """PostgreSQL."""

    url: Secret | None = setting(
        "DATABASE_URL", None, readers.DATABASE_URL, "The company's PostgreSQL.", "an embedded PostgreSQL"
    )
    pool_min: int = setting("GATEWAY_POOL_MIN", 1, readers.POOL_MIN, "Smallest number of open connections.")
    pool_max: int = setting("GATEWAY_POOL_MAX", 8, readers.POOL_MAX, "Largest number of open connections.")
    connect_s: float = setting("GATEWAY_DB_CONNECT_S", 5.0, readers.SECONDS, "Time for a connection to PostgreSQL.")
    statement_s: float = setting("GATEWAY_DB_STATEMENT_S", 15.0, readers.SECONDS, "Time for one statement.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionsSettings:
    """The security monitor, which receives every interaction."""

    enabled: bool = setting(
        "ENABLE_SUBMISSIONS_API", False, readers.FLAG, "Send every interaction to a security monitor."
    )
    url: str | None = setting(
        "SUBMISSIONS_API_URL",
        None,
        readers.ANY_ENDPOINT,
        "Complete URL of the monitor's endpoint for submissions.",
        in_repr=False,
    )
    authorization: Secret | None = setting(
        "SUBMISSIONS_API_AUTHORIZATION",
        None,
        readers.HEADER_SECRET,
        "Value of the Authorization header sent to the monitor.",
    )
    calls: int = setting("GATEWAY_SUBMISSIONS_CALLS", 8, readers.CALLS, "Largest number of concurrent submissions.")
    timeout_s: float = setting(
        "GATEWAY_SUBMISSIONS_TIMEOUT_S", 30.0, readers.SECONDS, "Time for the monitor to accept a submission."
    )
    give_up_s: float = setting(
        "GATEWAY_SUBMISSIONS_GIVE_UP_S",
        604_800.0,
        readers.SECONDS,
        "Age at which a submission that the monitor does not accept becomes a dead letter.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantSettings:
    """The model for the gateway's own requests."""

    model: str | None = setting(
        "GATEWAY_ASSISTANT_MODEL",
        None,
        readers.NAME,
        "Model that writes titles and metadata of conversations.",
        "the conversation's own",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesSettings:
    """Sizes and prices of `/image_gen`."""

    prices: tuple[tuple[str, float], ...] = setting(
        "GATEWAY_IMAGE_PRICES",
        (("256x256", 0.016), ("512x512", 0.018), ("1024x1024", 0.020)),
        readers.PRICES,
        "Image sizes that callers may request, and the price of an image of each size in USD.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSettings:
    """The chat page, and the origins of other pages that may use this gateway."""

    name: str = setting("GATEWAY_PAGE_NAME", "LLM gateway", readers.NAME, "Name of the chat page.")
    policy_url: str | None = setting(
        "GATEWAY_POLICY_URL", None, readers.LINK, "The company's usage policy; the chat page links to it."
    )
    token_url: str | None = setting(
        "GATEWAY_TOKEN_URL", None, readers.LINK, "Where people get a key or token: the page's “Generate a token”."
    )
    default_model: str | None = setting(
        "GATEWAY_DEFAULT_MODEL",
        None,
        readers.NAME,
        "The model that the chat page selects first.",
        "the first chat model",
    )
    use_cases: tuple[Mapping[str, str], ...] = setting(
        "GATEWAY_USE_CASES",
        (),
        readers.USE_CASES,
        "The chat page's use cases, each a table with `name`, `prompt` and an optional `description`; as JSON in the "
        "environment.",
        "assistant, coding, security",
    )
    allowed_origins: tuple[str, ...] = setting(
        "GATEWAY_ALLOWED_ORIGINS",
        (),
        readers.ORIGINS,
        "Origins whose pages may call this gateway (CORS), such as a chat page on another host.",
        "none",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """The gateway's own log on standard output."""

    format: str = setting(
        "GATEWAY_LOG_FORMAT", "auto", readers.LOG_FORMAT, "`json`, `text`, or `auto`: text on a terminal."
    )
    level: str = setting("GATEWAY_LOG_LEVEL", "info", readers.LOG_LEVEL, "Lowest level that is logged.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Access to `/metrics`, beside auditors and admins."""

    token: Secret | None = setting(
        "GATEWAY_METRICS_TOKEN",
        None,
        readers.HEADER_SECRET,
        "Token that a scraper sends as `Authorization: Bearer …` to read `/metrics`.",
    )
    networks: tuple[Network, ...] = setting(
        "GATEWAY_METRICS_NETWORKS",
        (),
        readers.NETWORKS_OR_NONE,
        "Networks that read `/metrics` without a token. A proxy in them must add a forwarding header.",
        "none",
    )
