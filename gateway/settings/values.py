"""All settings as one frozen value, with the URLs and headers derived from them."""

# ruff: noqa: RUF009 - `setting` makes a dataclass field, and no mutable default

from __future__ import annotations

from dataclasses import MISSING, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.settings import groups, readers
from gateway.settings.readers import CHAT_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

IMAGE_PATH = "/images/generations"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings. No text that is made from this value shows a secret."""

    data_dir: Path = groups.setting(
        "GATEWAY_DATA_DIR",
        MISSING,
        readers.PATH,
        "Directory of the embedded PostgreSQL and the journal.",
        "`$XDG_DATA_HOME/llm-gateway` or `~/.local/share/llm-gateway`; as root `/var/lib/llm-gateway`",
    )
    server: groups.ServerSettings = field(default_factory=groups.ServerSettings)
    auth: groups.AuthSettings = field(default_factory=groups.AuthSettings)
    upstream: groups.UpstreamSettings = field(default_factory=groups.UpstreamSettings)
    demo: groups.DemoSettings = field(default_factory=groups.DemoSettings)
    journal: groups.JournalSettings = field(default_factory=groups.JournalSettings)
    store: groups.StoreSettings = field(default_factory=groups.StoreSettings)
    submissions: groups.SubmissionsSettings = field(default_factory=groups.SubmissionsSettings)
    assistant: groups.AssistantSettings = field(default_factory=groups.AssistantSettings)
    images: groups.ImagesSettings = field(default_factory=groups.ImagesSettings)
    page: groups.PageSettings = field(default_factory=groups.PageSettings)
    log: groups.LogSettings = field(default_factory=groups.LogSettings)
    metrics: groups.MetricsSettings = field(default_factory=groups.MetricsSettings)
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)  # setting's name → its source

    @property
    def journal_dir(self) -> Path:
        return self.journal.directory or self.data_dir / "journal"

    @property
    def is_demo(self) -> bool:
        return self.upstream_base is None

    @cached_property
    def upstream_base(self) -> str | None:
        """Base URL of the model's API, without a final slash; None: the built-in demo model answers.

        For an endpoint that does not end in /chat/completions, it is the URL without the last path segment.
        """
        if self.upstream.base_url:
            return self.upstream.base_url
        if self.upstream.endpoint:
            return base_of(self.upstream.endpoint)
        return groups.OPENAI_BASE if self.upstream.api_key else None

    @property
    def chat_url(self) -> str | None:
        """URL for chat completions; it may have a query (Azure's api-version)."""
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
        """URL of the proxy for `url`, by the usual rules: https only, and not for hosts in no_proxy."""
        parts = urlsplit(url)
        if parts.scheme != "https" or (
            self.upstream.no_proxy and _is_direct(parts.hostname or "", self.upstream.no_proxy)
        ):
            return None
        return self.upstream.proxy


def base_of(endpoint: str) -> str:
    """Base URL of the API that a chat endpoint belongs to."""
    plain = urlsplit(endpoint)._replace(query="").geturl()
    return plain.removesuffix(CHAT_PATH) if plain.endswith(CHAT_PATH) else plain.rpartition("/")[0]


def _is_direct(host: str, no_proxy: str) -> bool:
    """Whether the list has `host` or a parent domain of it. `*` matches every host."""
    names = [name.strip().lower().removeprefix("*.").lstrip(".") for name in no_proxy.split(",")]
    return any(name in ("*", host) or (name and host.endswith(f".{name}")) for name in names)
