"""The table of settings: for loading, for `llm-gateway check`, and for deploy/docs/settings.md."""

from __future__ import annotations

from dataclasses import fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.settings import groups
from gateway.settings.values import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gateway.settings.kinds import Reader


class Setting(NamedTuple):
    """One row of the table. `name` is the TOML name: `group.key`, or `key` at the top level."""

    name: str
    env: tuple[str, ...]
    reader: Reader
    default: Any  # MISSING: derived from the environment
    description: str
    default_text: str

    @property
    def label(self) -> str:
        return f"{self.env[0]} ({self.name})"


class SettingReport(NamedTuple):
    """A setting with its current value, secrets hidden, and the source of the value. Its text is one aligned line."""

    name: str
    env: str
    value: str
    origin: str
    description: str

    def __str__(self) -> str:
        return f"{self.name:<25} {self.env:<30} {self.value:<32} {self.origin}"


GROUPS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "server": groups.ServerSettings,
        "auth": groups.AuthSettings,
        "upstream": groups.UpstreamSettings,
        "demo": groups.DemoSettings,
        "journal": groups.JournalSettings,
        "store": groups.StoreSettings,
        "submissions": groups.SubmissionsSettings,
        "assistant": groups.AssistantSettings,
        "images": groups.ImagesSettings,
        "page": groups.PageSettings,
        "log": groups.LogSettings,
        "metrics": groups.MetricsSettings,
    }
)


def settings_table() -> Iterator[Setting]:
    """All settings, in the order of the groups."""
    yield from _settings_of("", Settings)
    for group, cls in GROUPS.items():
        yield from _settings_of(f"{group}.", cls)


def _settings_of(prefix: str, cls: type[Any]) -> Iterator[Setting]:
    for each in fields(cls):
        if each.metadata:
            yield Setting(prefix + each.name, default=each.default, **each.metadata)


def report(settings: Settings) -> list[SettingReport]:
    """Each setting with its value, secrets hidden, and the source of the value."""
    return [_report_of(setting, settings) for setting in settings_table()]


def _report_of(setting: Setting, settings: Settings) -> SettingReport:
    group, _, key = setting.name.rpartition(".")
    value = getattr(getattr(settings, group) if group else settings, key)
    text = setting.reader.show(value) if value not in (None, ()) else "not set"
    origin = settings.origins.get(setting.name, "default")
    return SettingReport(setting.name, setting.env[0], text, origin, setting.description)


def markdown_table() -> str:
    """The table of settings for deploy/docs/settings.md."""
    rows = ["| Environment | TOML | Default | |", "|---|---|---|---|"]
    rows += [
        f"| `{'`, `'.join(setting.env)}` | `{setting.name}` | {_default_text(setting)} | {setting.description} |"
        for setting in settings_table()
    ]
    return "\n".join(rows) + "\n"


def _default_text(setting: Setting) -> str:
    if setting.default_text or setting.default is None:
        return setting.default_text
    return f"`{setting.reader.show(setting.default)}`"
