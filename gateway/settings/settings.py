"""Settings: one frozen value, from the environment over one TOML file, with all faults found at once.

The dataclasses below are the one table of settings: loading, `describe` and the table of settings.md all follow from
their fields. Nothing here reads `os.environ`; the caller hands the environment in.
"""

# ruff: noqa: RUF009 - `_set` makes a dataclass field, and no mutable default

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from gateway.settings import readers
from gateway.settings.readers import CHAT_PATH, Reader, home, is_loopback, redacted_url, shown_size
from gateway.settings.readers import Secret as Secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gateway.settings.readers import Environ, Network

OPENAI_BASE = "https://api.openai.com/v1"
IMAGE_PATH = "/images/generations"


class SettingsError(Exception):
    """What is wrong with the settings: one sentence a fault, all of them."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def _set(
    env: str, default: object, form: Reader, text: str, default_text: str = "", *, is_shown: bool = True
) -> Any:  # of the field's type, which is checked when the settings are loaded
    """A setting: its environment names (the first is the documented one), default, form, and one line of help."""
    metadata = {"env": tuple(env.split()), "form": form, "help": text, "default_text": default_text}
    return field(default=default, repr=is_shown, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The listener, and what it takes from callers."""

    host: str = _set("GATEWAY_HOST", "127.0.0.1", readers.HOST, "Address to listen on.")
    port: int = _set("GATEWAY_PORT", 8000, readers.PORT, "Port to listen on; 0 takes any free one.")
    workers: int = _set("GATEWAY_WORKERS", 1, readers.WORKERS, "Processes that share the port, one a core.")
    allow_open: bool = _set(
        "GATEWAY_ALLOW_OPEN", False, readers.FLAG, "Let other machines in, although nobody has to log in."
    )
    public_url: str | None = _set(
        "GATEWAY_PUBLIC_URL", None, readers.PLAIN_URL, "The URL under which people reach the gateway."
    )
    allowed_hosts: tuple[str, ...] = _set(
        "GATEWAY_ALLOWED_HOSTS",
        (),
        readers.HOSTS,
        "Further names by which browsers may call it without a key, beside that of its public URL, localhost and "
        "addresses.",
        "none",
    )
    heartbeat_s: float = _set(
        "GATEWAY_HEARTBEAT_S", 15.0, readers.SECONDS, "Silence in a stream before a comment is sent."
    )
    shutdown_s: float = _set(
        "GATEWAY_SHUTDOWN_S", 30.0, readers.SECONDS, "Time that live streams have to finish at a stop."
    )
    max_body_bytes: int = _set("GATEWAY_MAX_BODY_BYTES", 32 << 20, readers.BODY_SIZE, "Largest body in JSON, inflated.")
    max_depth: int = _set("GATEWAY_MAX_DEPTH", 100, readers.DEPTH, "Deepest nesting of a JSON body.")
    body_timeout_s: float = _set(
        "GATEWAY_BODY_TIMEOUT_S", 60.0, readers.SECONDS, "Time that a caller has to send its body."
    )
    keepalive_s: float = _set("GATEWAY_KEEPALIVE_S", 75.0, readers.SECONDS, "How long an idle connection is kept open.")
    client_stall_s: float = _set(
        "GATEWAY_CLIENT_STALL_S", 300.0, readers.SECONDS, "How long a caller may leave its answer unread."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """Who may ask, and how it is known who asks."""

    modes: tuple[str, ...] = _set(
        "GATEWAY_AUTH",
        ("open",),
        readers.AUTH_MODES,
        "How callers are known, one or several: `open` (everybody is the local user), `keys`, `jwt` (OIDC), "
        "`header` (set by a proxy).",
    )
    admin_key: Secret | None = _set(
        "GATEWAY_ADMIN_KEY",
        None,
        readers.ADMIN_KEY,
        "The first key, of the user `admin`, who is admin and auditor; 32 random characters or more. Needs `keys`.",
    )
    keys_refresh_s: float = _set(
        "GATEWAY_AUTH_KEYS_REFRESH_S", 2.0, readers.SECONDS, "How often changes of keys are looked for."
    )
    own_keys_s: float = _set(
        "GATEWAY_AUTH_OWN_KEYS_S",
        0.0,
        readers.SECONDS_OR_NONE,
        "How long a key lasts that users make for themselves; 0: they make none.",
    )
    issuer: str | None = _set(
        "GATEWAY_AUTH_ISSUER", None, readers.ISSUER, "The OpenID issuer, as in `iss` to the letter."
    )
    audience: tuple[str, ...] = _set(
        "GATEWAY_AUTH_AUDIENCE", (), readers.NAMES, "A token's `aud` must hold one of these.", "none"
    )
    jwks_url: str | None = _set(
        "GATEWAY_AUTH_JWKS_URL", None, readers.ENDPOINT, "Where the issuer's keys lie.", "asked of the issuer"
    )
    algorithms: tuple[str, ...] = _set(
        "GATEWAY_AUTH_ALGORITHMS", ("EdDSA", "ES256", "RS256"), readers.ALGORITHMS, "Signatures that are taken."
    )
    leeway_s: float = _set("GATEWAY_AUTH_LEEWAY_S", 30.0, readers.LEEWAY, "By how much the issuer's clock may differ.")
    user_claim: str = _set("GATEWAY_AUTH_USER_CLAIM", "email", readers.NAME, "The claim that is the user.")
    title_claim: str = _set(
        "GATEWAY_AUTH_TITLE_CLAIM", "title", readers.NAME, "The claim that is the user's job title."
    )
    groups_claim: str = _set(
        "GATEWAY_AUTH_GROUPS_CLAIM", "groups", readers.NAME, "The claim with the user's groups; `a.b` is `b` in `a`."
    )
    auditor_groups: tuple[str, ...] = _set(
        "GATEWAY_AUTH_AUDITOR_GROUPS", (), readers.NAMES, "Groups whose members may read what everybody said.", "none"
    )
    admin_groups: tuple[str, ...] = _set(
        "GATEWAY_AUTH_ADMIN_GROUPS", (), readers.NAMES, "Groups whose members manage keys.", "none"
    )
    trusted_networks: tuple[Network, ...] = _set(
        "GATEWAY_AUTH_TRUSTED_NETWORKS", (), readers.NETWORKS, "Addresses of the proxies that log users in.", "none"
    )
    user_header: str = _set(
        "GATEWAY_AUTH_USER_HEADER", "X-Forwarded-User", readers.HEADER_NAME, "The proxy's header that is the user."
    )
    title_header: str | None = _set(
        "GATEWAY_AUTH_TITLE_HEADER", None, readers.HEADER_NAME, "The proxy's header that is the user's job title."
    )
    groups_header: str | None = _set(
        "GATEWAY_AUTH_GROUPS_HEADER", None, readers.HEADER_NAME, "The proxy's header that lists the user's groups."
    )

    @property
    def is_open(self) -> bool:
        return "open" in self.modes


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """The model's side. URLs that may hold a credential are left out of the repr."""

    endpoint: str | None = _set(
        "LLM_ENDPOINT",
        None,
        readers.ENDPOINT,
        "Whole URL of a chat-completions endpoint.",
        "the demo model",
        is_shown=False,
    )
    base_url: str | None = _set(
        "OPENAI_BASE_URL",
        None,
        readers.BASE_URL,
        "Base URL of an OpenAI-compatible API.",
        f"{OPENAI_BASE} with OPENAI_API_KEY",
    )
    image_endpoint: str | None = _set(
        "LLM_IMG_ENDPOINT",
        None,
        readers.ENDPOINT,
        "Whole URL of an image endpoint.",
        "below the base URL",
        is_shown=False,
    )
    authorization: Secret | None = _set(
        "LLM_API_AUTHORIZATION", None, readers.HEADER_SECRET, "Whole value of the Authorization header sent upstream."
    )
    api_key: Secret | None = _set(
        "OPENAI_API_KEY", None, readers.HEADER_SECRET, "Key sent as `Bearer …` when no authorization is set."
    )
    content_type: str | None = _set(
        "LLM_API_CONTENT_TYPE",
        None,
        readers.MEDIA_TYPE,
        "Content-Type of chat and image requests sent upstream.",
        "the caller's",
    )
    connect_s: float = _set(
        "GATEWAY_UPSTREAM_CONNECT_S", 10.0, readers.SECONDS, "Time for a connection to the upstream."
    )
    head_s: float = _set("GATEWAY_UPSTREAM_HEAD_S", 300.0, readers.SECONDS, "Time for the head of an answer to come.")
    stall_s: float = _set("GATEWAY_UPSTREAM_STALL_S", 120.0, readers.SECONDS, "Longest silence within an answer.")
    idle_s: float = _set(
        "GATEWAY_UPSTREAM_IDLE_S", 20.0, readers.SECONDS, "How long an idle upstream connection is kept for reuse."
    )
    max_answer_bytes: int = _set(
        "GATEWAY_MAX_ANSWER_BYTES", 64 << 20, readers.BODY_SIZE, "Largest chat answer that is taken."
    )
    token_prices: tuple[tuple[str, tuple[float, float, float]], ...] = _set(
        "GATEWAY_TOKEN_PRICES",
        (),
        readers.TOKEN_PRICES,
        "What models cost in USD for a million tokens, as `model=prompt/answer` or `model=prompt/cached/answer`; "
        "0 is free.",
        "the providers' list prices",
    )
    ask_usage: bool = _set(
        "GATEWAY_ASK_USAGE", True, readers.FLAG, "Ask the upstream for token usage when the caller did not."
    )
    pass_credentials: bool = _set(
        "GATEWAY_PASS_CREDENTIALS", False, readers.FLAG, "Send the caller's own credentials upstream, if it has some."
    )
    pass_headers: tuple[str, ...] = _set(
        "GATEWAY_PASS_HEADERS",
        (),
        readers.HEADER_PATTERNS,
        "Further headers of callers that are sent upstream, beside those that OpenAI's, Anthropic's and known agents' "
        "APIs use; `x-corp-*` is all that begin so.",
        "none",
    )
    proxy: str | None = _set(
        "HTTPS_PROXY https_proxy", None, readers.PROXY, "HTTP proxy for upstreams with an https URL.", is_shown=False
    )
    no_proxy: str | None = _set(
        "NO_PROXY no_proxy", None, readers.HOST_LIST, "Hosts that are reached without the proxy."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """The built-in model of a first run."""

    words_per_second: float = _set(
        "GATEWAY_DEMO_WORDS_PER_SECOND", 25.0, readers.RATE, "Speed at which the demo model talks."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings:
    """The local journal, which holds what was said until Postgres has it."""

    directory: Path | None = _set(
        "GATEWAY_JOURNAL_DIR", None, readers.PATH, "Where the journal lies.", "`journal` in the data directory"
    )
    sync: str = _set(
        "GATEWAY_JOURNAL_SYNC",
        "group",
        readers.SYNC,
        "When records are on disk: `group`: before an answer ends; `interval`: 50 ms later; `none`: some time later.",
    )
    when_full: str = _set(
        "GATEWAY_JOURNAL_WHEN_FULL", "refuse", readers.WHEN_FULL, "With no room left: `refuse` or `serve`."
    )
    max_bytes: int = _set("GATEWAY_JOURNAL_MAX_BYTES", 4 << 30, readers.SIZE, "Largest size of the journal.")
    min_free_bytes: int = _set(
        "GATEWAY_JOURNAL_MIN_FREE_BYTES", 256 << 20, readers.SIZE, "Disk space that is left to others."
    )
    segment_bytes: int = _set(
        "GATEWAY_JOURNAL_SEGMENT_BYTES", 32 << 20, readers.SEGMENT_SIZE, "Size at which a new file is begun."
    )
    shipped_s: float = _set(
        "GATEWAY_JOURNAL_SHIPPED_S",
        3600.0,
        readers.SECONDS_OR_NONE,
        "How long files stay that PostgreSQL has, so that it can get them again after it was set back (restore, "
        "failover); they take no room that is needed.",
    )
    inline_bytes: int = _set(
        "GATEWAY_INLINE_BYTES",
        1 << 20,
        readers.INLINE_SIZE,
        "Larger bodies of other `/v1` calls are recorded by size and digest.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """PostgreSQL."""

    url: Secret | None = _set(
        "DATABASE_URL", None, readers.DATABASE_URL, "The company's PostgreSQL.", "an embedded PostgreSQL"
    )
    pool_min: int = _set("GATEWAY_POOL_MIN", 1, readers.POOL_MIN, "Connections that are kept open.")
    pool_max: int = _set("GATEWAY_POOL_MAX", 8, readers.POOL_MAX, "Connections at most.")
    connect_s: float = _set("GATEWAY_DB_CONNECT_S", 5.0, readers.SECONDS, "Time for a connection to PostgreSQL.")
    statement_s: float = _set("GATEWAY_DB_STATEMENT_S", 15.0, readers.SECONDS, "Time for one statement.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionsSettings:
    """The security monitor, which gets every interaction."""

    enabled: bool = _set("ENABLE_SUBMISSIONS_API", False, readers.FLAG, "Send every interaction to a security monitor.")
    url: str | None = _set(
        "SUBMISSIONS_API_URL",
        None,
        readers.ANY_ENDPOINT,
        "Whole URL that the monitor takes submissions at.",
        is_shown=False,
    )
    authorization: Secret | None = _set(
        "SUBMISSIONS_API_AUTHORIZATION",
        None,
        readers.HEADER_SECRET,
        "Whole value of the Authorization header sent to the monitor.",
    )
    calls: int = _set("GATEWAY_SUBMISSIONS_CALLS", 8, readers.CALLS, "Submissions that are under way at once.")
    timeout_s: float = _set(
        "GATEWAY_SUBMISSIONS_TIMEOUT_S", 30.0, readers.SECONDS, "Time that the monitor has to take a submission."
    )
    give_up_s: float = _set(
        "GATEWAY_SUBMISSIONS_GIVE_UP_S",
        604_800.0,
        readers.SECONDS,
        "Age at which a submission that is not taken becomes a dead letter.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantSettings:
    """The model that the gateway itself asks."""

    model: str | None = _set(
        "GATEWAY_ASSISTANT_MODEL",
        None,
        readers.NAME,
        "Model that writes titles and metadata of conversations.",
        "the conversation's own",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesSettings:
    """What `/image_gen` offers."""

    prices: tuple[tuple[str, float], ...] = _set(
        "GATEWAY_IMAGE_PRICES",
        (("256x256", 0.016), ("512x512", 0.018), ("1024x1024", 0.020)),
        readers.PRICES,
        "Sizes that may be asked for, and what an image of each costs in USD.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSettings:
    """What the chat page shows, and which pages elsewhere may use this gateway."""

    name: str = _set("GATEWAY_PAGE_NAME", "LLM gateway", readers.NAME, "What the chat page is called.")
    policy_url: str | None = _set(
        "GATEWAY_POLICY_URL", None, readers.LINK, "The company's usage policy, to which the chat page links."
    )
    token_url: str | None = _set(
        "GATEWAY_TOKEN_URL", None, readers.LINK, "Where people get a key or token: the page's “Generate a token”."
    )
    default_model: str | None = _set(
        "GATEWAY_DEFAULT_MODEL", None, readers.NAME, "The model that the chat page begins with.", "the first that chats"
    )
    use_cases: tuple[Mapping[str, str], ...] = _set(
        "GATEWAY_USE_CASES",
        (),
        readers.USE_CASES,
        "The chat page's use cases, each a table with `name`, `prompt` and perhaps `description`; in the environment "
        "as JSON.",
        "assistant, coding, security",
    )
    allowed_origins: tuple[str, ...] = _set(
        "GATEWAY_ALLOWED_ORIGINS",
        (),
        readers.ORIGINS,
        "Origins whose pages may call this gateway (CORS), such as a chat page on a host of its own.",
        "none",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """The gateway's own log on standard output."""

    format: str = _set(
        "GATEWAY_LOG_FORMAT", "auto", readers.LOG_FORMAT, "`json`, `text`, or `auto`: text on a terminal."
    )
    level: str = _set("GATEWAY_LOG_LEVEL", "info", readers.LOG_LEVEL, "Least level that is logged.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Who may read `/metrics`, beside auditors and admins."""

    token: Secret | None = _set(
        "GATEWAY_METRICS_TOKEN",
        None,
        readers.HEADER_SECRET,
        "What a scraper sends as `Authorization: Bearer …` to read `/metrics`.",
    )
    networks: tuple[Network, ...] = _set(
        "GATEWAY_METRICS_NETWORKS",
        (),
        readers.NETWORKS_OR_NONE,
        "Addresses that read `/metrics` without. A proxy that does not tell of itself has one, too.",
        "none",
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set. Secrets stay hidden in every text made of it."""

    data_dir: Path = _set(
        "GATEWAY_DATA_DIR",
        MISSING,
        readers.PATH,
        "Where the embedded PostgreSQL and the journal live.",
        "`$XDG_DATA_HOME/llm-gateway` or `~/.local/share/llm-gateway`; as root `/var/lib/llm-gateway`",
    )
    server: ServerSettings = field(default_factory=ServerSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    upstream: UpstreamSettings = field(default_factory=UpstreamSettings)
    demo: DemoSettings = field(default_factory=DemoSettings)
    journal: JournalSettings = field(default_factory=JournalSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    submissions: SubmissionsSettings = field(default_factory=SubmissionsSettings)
    assistant: AssistantSettings = field(default_factory=AssistantSettings)
    images: ImagesSettings = field(default_factory=ImagesSettings)
    page: PageSettings = field(default_factory=PageSettings)
    log: LogSettings = field(default_factory=LogSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)  # setting's name → where from

    @property
    def journal_dir(self) -> Path:
        return self.journal.directory or self.data_dir / "journal"

    @property
    def is_demo(self) -> bool:
        return self.upstream_base is None

    @cached_property
    def upstream_base(self) -> str | None:
        """Base URL of the model's API, without a slash at its end; None: the built-in demo model answers.

        An endpoint that does not end in /chat/completions tells nothing of its siblings: they are looked for beside it.
        """
        if self.upstream.base_url:
            return self.upstream.base_url
        if self.upstream.endpoint:
            return _base_of(self.upstream.endpoint)
        return OPENAI_BASE if self.upstream.api_key else None

    @property
    def chat_url(self) -> str | None:
        """Where chat completions are asked for; it may carry a query (Azure's api-version)."""
        base = self.upstream_base
        return self.upstream.endpoint or (base and base + CHAT_PATH)

    @property
    def image_url(self) -> str | None:
        base = self.upstream_base
        return self.upstream.image_endpoint or (base and base + IMAGE_PATH)

    @property
    def authorization_header(self) -> str | None:
        """The gateway's own credential for the upstream, as the header's value."""
        if self.upstream.authorization:
            return self.upstream.authorization.reveal()
        return f"Bearer {self.upstream.api_key.reveal()}" if self.upstream.api_key else None

    def proxy_for(self, url: str) -> str | None:
        """The proxy through which `url` is reached, by the usual rules: https only, and not for hosts in no_proxy."""
        parts = urlsplit(url)
        if parts.scheme != "https" or (
            self.upstream.no_proxy and _is_direct(parts.hostname or "", self.upstream.no_proxy)
        ):
            return None
        return self.upstream.proxy

    def describe(self) -> list[Described]:
        """Each setting with its value as it may be shown, and where that came from."""
        return [_described(setting, self) for setting in table()]


def _base_of(endpoint: str) -> str:
    plain = urlsplit(endpoint)._replace(query="").geturl()
    return plain.removesuffix(CHAT_PATH) if plain.endswith(CHAT_PATH) else plain.rpartition("/")[0]


def _is_direct(host: str, no_proxy: str) -> bool:
    """Whether `host` is one of the names in the list, or lies below one. `*` is every host."""
    names = [name.strip().lower().removeprefix("*.").lstrip(".") for name in no_proxy.split(",")]
    return any(name in ("*", host) or (name and host.endswith(f".{name}")) for name in names)


# --- the table, for people ---


class Setting(NamedTuple):
    """One row of the table. `name` is the TOML name: `group.key`, or `key` alone on the top level."""

    name: str
    env: tuple[str, ...]
    form: Reader
    default: Any  # MISSING: worked out when loading
    help: str
    default_text: str

    @property
    def label(self) -> str:
        return f"{self.env[0]} ({self.name})"


class Described(NamedTuple):
    """A setting as it stands. Its text is one aligned line for people."""

    name: str
    env: str
    value: str
    origin: str
    help: str

    def __str__(self) -> str:
        return f"{self.name:<25} {self.env:<30} {self.value:<32} {self.origin}"


_GROUPS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "server": ServerSettings,
        "auth": AuthSettings,
        "upstream": UpstreamSettings,
        "demo": DemoSettings,
        "journal": JournalSettings,
        "store": StoreSettings,
        "submissions": SubmissionsSettings,
        "assistant": AssistantSettings,
        "images": ImagesSettings,
        "page": PageSettings,
        "log": LogSettings,
        "metrics": MetricsSettings,
    }
)


def table() -> Iterator[Setting]:
    """Every setting there is, in the order of the classes above."""
    yield from _settings_of("", Settings)
    for group, cls in _GROUPS.items():
        yield from _settings_of(f"{group}.", cls)


def _settings_of(prefix: str, cls: type[Any]) -> Iterator[Setting]:
    for each in fields(cls):
        if each.metadata:
            meta = each.metadata
            yield Setting(
                prefix + each.name, meta["env"], meta["form"], each.default, meta["help"], meta["default_text"]
            )


def _described(setting: Setting, settings: Settings) -> Described:
    group, _, key = setting.name.rpartition(".")
    value = getattr(getattr(settings, group) if group else settings, key)
    shown = setting.form.show(value) if value not in (None, ()) else "not set"
    origin = settings.origins.get(setting.name, "default")
    return Described(setting.name, setting.env[0], shown, origin, setting.help)


def markdown_table() -> str:
    """The table of settings for deploy/docs/settings.md."""
    rows = ["| Environment | TOML | Default | |", "|---|---|---|---|"]
    rows += [
        f"| `{'`, `'.join(setting.env)}` | `{setting.name}` | {_default_text(setting)} | {setting.help} |"
        for setting in table()
    ]
    return "\n".join(rows) + "\n"


def _default_text(setting: Setting) -> str:
    if setting.default_text or setting.default is None:
        return setting.default_text
    return f"`{setting.form.show(setting.default)}`"


# --- loading ---


def load(environ: Environ, config: Path | None = None, overrides: Mapping[str, object] | None = None) -> Settings:
    """Read the settings: overrides (by TOML name; None is not given) over environment over the TOML file.

    Raises SettingsError with every fault there is. `config` is the TOML file; without it GATEWAY_CONFIG names one.
    """
    loader = _Loader(environ, config, overrides or {})
    return loader.load()


class _Loader:
    """One loading: the sources, the values found so far, and the faults."""

    def __init__(self, environ: Environ, config: Path | None, overrides: Mapping[str, object]) -> None:
        self.environ = environ
        self.overrides = {name: value for name, value in overrides.items() if value is not None}
        self.faults: list[str] = []
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.path = config or (Path(environ["GATEWAY_CONFIG"]) if environ.get("GATEWAY_CONFIG") else None)
        self.file: dict[str, object] = {}

    def load(self) -> Settings:
        settings_table = list(table())
        if self.path:
            self.file = _flat(self.read_file(self.path))
        self.refuse_unknown(settings_table)
        for setting in settings_table:
            self.take(setting)
        self.faults += _seed_faults(self.environ)
        settings = self.built()
        self.faults += _cross_faults(settings, set(self.values))
        if self.faults:
            raise SettingsError(self.faults)
        return settings

    def read_file(self, path: Path) -> dict[str, Any]:
        try:
            with path.open("rb") as file:
                return tomllib.load(file)
        except (OSError, ValueError, RecursionError) as error:  # a wrong TOML text is a ValueError
            reason = error.strerror if isinstance(error, OSError) else f"it is not TOML: {error}"
            self.faults.append(f"GATEWAY_CONFIG (--config): {str(path)!r} cannot be read: {reason}")
            return {}

    def refuse_unknown(self, settings_table: list[Setting]) -> None:
        names = [setting.name for setting in settings_table]
        for source, given in ((f"{self.path}", self.file), ("the command line", self.overrides)):
            self.faults += [
                f"{name!r} in {source} is not a setting{_did_you_mean(name, names)}"
                for name in given
                if name not in names
            ]
        known = [name for setting in settings_table for name in setting.env] + ["GATEWAY_CONFIG"]
        for name, value in self.environ.items():
            if name.startswith("GATEWAY_") and name not in known and not _is_service_link(name, value):
                self.faults.append(f"{name!r} in the environment is not a setting{_did_you_mean(name, known)}")

    def take(self, setting: Setting) -> None:
        """Find the setting's value where it is given, read it, and keep it or the fault."""
        for value, origin in self.given(setting):
            if value == "":
                continue
            try:
                self.values[setting.name] = setting.form.read(value, self.environ)
                self.origins[setting.name] = origin
            except ValueError as error:
                self.faults.append(_fault(setting, value, origin, str(error)))
            return
        try:
            self.values[setting.name] = self.default_of(setting)
        except ValueError as error:
            self.faults.append(f"{setting.label}: not set, and {error}")

    def given(self, setting: Setting) -> Iterator[tuple[object, str]]:
        if setting.name in self.overrides:
            yield self.overrides[setting.name], "command line"
        for name in setting.env:
            value = self.environ.get(name, "")
            if value.strip() and not _is_service_link(name, value):
                yield value, f"environment {name}"
        if setting.name in self.file:
            yield self.file[setting.name], f"file {self.path}"

    def default_of(self, setting: Setting) -> Any:
        if setting.default is not MISSING:
            return setting.default
        return default_data_dir(self.environ, is_root=os.geteuid() == 0)

    def built(self) -> Settings:
        """The settings as far as they could be read; defaults stand in for the others until the faults are raised."""
        groups = {group: cls(**self.values_of(f"{group}.")) for group, cls in _GROUPS.items()}
        return Settings(data_dir=self.values.get("data_dir", Path()), origins=MappingProxyType(self.origins), **groups)

    def values_of(self, prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): value for name, value in self.values.items() if name.startswith(prefix)}


def default_data_dir(environ: Environ, *, is_root: bool) -> Path:
    """Where data lie when nothing is set. Root's home is closed to the account that PostgreSQL must run as."""
    if is_root:
        return Path("/var/lib/llm-gateway")
    shared = environ.get("XDG_DATA_HOME", "")
    if shared.startswith("/") and shared.isprintable():  # the XDG specification: relative ones are ignored
        return Path(shared) / "llm-gateway"
    return Path(home(environ)) / ".local/share/llm-gateway"


def _flat(document: dict[str, Any]) -> dict[str, object]:
    """TOML tables as `group.key`; only known groups are opened, so that anything else shows as unknown or as wrong."""
    flat: dict[str, object] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def _fault(setting: Setting, value: object, origin: str, reason: str) -> str:
    where = "" if origin.startswith("environment") else f" from {origin}"
    because = f" ({reason})" if reason else ""
    if setting.form.is_secret:
        return f"{setting.label}{where}: the value is hidden here; it is not {setting.form.takes}{because}"
    return f"{setting.label}{where}: {_offending(value)} is not {setting.form.takes}{because}"


def _offending(value: object) -> str:
    """A wrong value as it may be shown: short, on one line, and without a credential that was put there by mistake."""
    if isinstance(value, bool | int | float):
        return str(value).lower()[:80]
    if not isinstance(value, str):
        return (
            f"a {'table' if isinstance(value, dict) else 'list' if isinstance(value, list) else type(value).__name__}"
        )
    shown = repr(re.sub(r"\b(sk-|Bearer\s+|Basic\s+)\S+", r"\1***", redacted_url(value)))
    return shown if len(shown) <= 120 else f"{shown[:120]}…"


def _did_you_mean(name: str, known: list[str]) -> str:
    leaf = name.rpartition(".")[2]
    close = [each for each in known if "." in each and each.rpartition(".")[2] == leaf]
    close = close or difflib.get_close_matches(name[:100], known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _is_service_link(name: str, value: str) -> bool:
    """Kubernetes puts such variables into every pod beside a Service called `gateway` or `gateway-…`."""
    if re.match(r"(tcp|udp|sctp)://", value):
        return True
    return re.search(r"_SERVICE_(HOST|PORT)(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?$", name) is not None


def _seed_faults(environ: Environ) -> Iterator[str]:
    """Variables of the seed system that ask for what is not served yet; its others are known, and wait."""
    words = [word for word in re.split(r"[^A-Za-z0-9_]+", environ.get("LLM_TYPE", "")) if word]
    other = [word for word in words if word.upper() not in ("OPEN_AI", "OPENAI")]
    if other:
        yield f"LLM_TYPE (environment only): {' '.join(other)[:120]!r} is not served yet; OPEN_AI is"


def _cross_faults(settings: Settings, known: set[str]) -> Iterator[str]:
    """Faults between settings that are each right; `known` are those that could be read."""
    upstream, journal, store = settings.upstream, settings.journal, settings.store
    yield from _open_faults(settings, known)
    yield from _auth_faults(settings.auth, known)
    if upstream.endpoint and upstream.base_url and _base_of(upstream.endpoint) != upstream.base_url:
        yield (
            "LLM_ENDPOINT (upstream.endpoint) and OPENAI_BASE_URL (upstream.base_url): "
            f"{redacted_url(upstream.endpoint)!r} does not lie below {upstream.base_url!r}; set only one of them"
        )
    urls = {"upstream.endpoint", "upstream.base_url", "upstream.image_endpoint"}
    if upstream.authorization and urls <= known and settings.image_url is None:
        yield (
            "LLM_API_AUTHORIZATION (upstream.authorization): (hidden) is set, but nothing says where to send it; "
            "set LLM_ENDPOINT (upstream.endpoint) or OPENAI_BASE_URL (upstream.base_url)"
        )
    if {"journal.max_bytes", "journal.segment_bytes"} <= known and journal.max_bytes < 4 * journal.segment_bytes:
        yield (
            f"GATEWAY_JOURNAL_MAX_BYTES (journal.max_bytes): {shown_size(journal.max_bytes)} is less than four times "
            f"GATEWAY_JOURNAL_SEGMENT_BYTES (journal.segment_bytes), which is {shown_size(journal.segment_bytes)}"
        )
    yield from _submissions_faults(settings.submissions, known)
    if {"store.pool_min", "store.pool_max"} <= known and store.pool_min > store.pool_max:
        yield (
            f"GATEWAY_POOL_MIN (store.pool_min): {store.pool_min} is more than "
            f"GATEWAY_POOL_MAX (store.pool_max), which is {store.pool_max}"
        )


def _submissions_faults(submissions: SubmissionsSettings, known: set[str]) -> Iterator[str]:
    if submissions.enabled and "submissions.url" in known and submissions.url is None:
        yield (
            "SUBMISSIONS_API_URL (submissions.url): not set, and ENABLE_SUBMISSIONS_API (submissions.enabled) is true, "
            "which needs it"
        )


def _open_faults(settings: Settings, known: set[str]) -> Iterator[str]:
    server = settings.server
    is_asked = {"server.host", "server.allow_open", "auth.modes"} <= known
    if is_asked and settings.auth.is_open and not is_loopback(server.host) and not server.allow_open:
        yield (
            f"GATEWAY_HOST (server.host): {server.host!r} lets other machines in, and nobody has to log in: whoever "
            "reaches it can use the model. Have them log in with GATEWAY_AUTH=keys, jwt or header (auth.modes), "
            "listen on 127.0.0.1, or say that this is wanted with GATEWAY_ALLOW_OPEN=true (server.allow_open)"
        )


def _auth_faults(auth: AuthSettings, known: set[str]) -> Iterator[str]:
    """A mode without what it needs; and what only one mode heeds without that mode, for somebody relies on it."""
    if "auth.modes" not in known:
        return
    if auth.own_keys_s and "keys" not in auth.modes:
        yield (
            "GATEWAY_AUTH_OWN_KEYS_S (auth.own_keys_s): users are to make keys for themselves, but GATEWAY_AUTH "
            "(auth.modes) does not have keys, so that none would be taken"
        )
    if auth.admin_key and "keys" not in auth.modes:
        yield (
            "GATEWAY_ADMIN_KEY (auth.admin_key): it is set, but GATEWAY_AUTH (auth.modes) does not have keys, so that "
            "it would not be taken"
        )
    for mode, needed in (("jwt", ("issuer", "audience")), ("header", ("trusted_networks",))):
        for key in needed:
            name, is_set = f"auth.{key}", bool(getattr(auth, key))
            env = f"GATEWAY_AUTH_{key.upper()}"
            if name in known and mode in auth.modes and not is_set:
                yield f"{env} ({name}): not set, and GATEWAY_AUTH (auth.modes) has {mode}, which needs it"
            if is_set and mode not in auth.modes:
                yield f"{env} ({name}): it is set, but GATEWAY_AUTH (auth.modes) does not have {mode}, which it is for"
    fetched = auth.jwks_url or auth.issuer
    if {"auth.jwks_url", "auth.issuer"} <= known and "jwt" in auth.modes and fetched and not _is_safe(fetched):
        yield (
            f"GATEWAY_AUTH_ISSUER (auth.issuer) or GATEWAY_AUTH_JWKS_URL (auth.jwks_url): {redacted_url(fetched)!r} is "
            "not https, so that whoever sits between could make tokens that are taken; only loopback may do without"
        )


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")
