"""Loads the settings from the environment over one TOML file, and reports all faults at once.

Nothing here reads `os.environ`: the caller passes the environment.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import MISSING
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gateway.settings.consistency import consistency_faults
from gateway.settings.kinds import home, redacted_url
from gateway.settings.table import GROUPS, Setting, settings_table
from gateway.settings.values import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gateway.settings.kinds import Environ


class SettingsError(Exception):
    """The settings have faults; `faults` has one sentence for each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load(environ: Environ, config: Path | None = None, overrides: Mapping[str, object] | None = None) -> Settings:
    """Reads the settings: overrides (by TOML name; None means not given) over the environment over the TOML file.

    `config` is the TOML file; without it, GATEWAY_CONFIG names one. Raises SettingsError with all faults.
    """
    return _Loader(environ, config, overrides or {}).load()


class _Loader:
    """State of one load: the sources, the values read so far, and the faults."""

    def __init__(self, environ: Environ, config: Path | None, overrides: Mapping[str, object]) -> None:
        self.environ = environ
        self.overrides = {name: value for name, value in overrides.items() if value is not None}
        self.faults: list[str] = []
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.path = config or (Path(environ["GATEWAY_CONFIG"]) if environ.get("GATEWAY_CONFIG") else None)
        self.file: dict[str, object] = {}

    def load(self) -> Settings:
        table = list(settings_table())
        if self.path:
            self.file = _flat(self.read_file(self.path))
        self.refuse_unknown(table)
        for setting in table:
            self.read(setting)
        self.faults += _seed_faults(self.environ)
        settings = self.built()
        self.faults += consistency_faults(settings, valid=set(self.values))
        if self.faults:
            raise SettingsError(self.faults)
        return settings

    def read_file(self, path: Path) -> dict[str, Any]:
        try:
            with path.open("rb") as file:
                return tomllib.load(file)
        except (OSError, ValueError, RecursionError) as error:  # invalid TOML is a ValueError
            reason = error.strerror if isinstance(error, OSError) else f"it is not TOML: {error}"
            self.faults.append(f"GATEWAY_CONFIG (--config): {str(path)!r} cannot be read: {reason}")
            return {}

    def refuse_unknown(self, table: list[Setting]) -> None:
        names = [setting.name for setting in table]
        for source, given in ((f"{self.path}", self.file), ("the command line", self.overrides)):
            self.faults += [
                f"{name!r} in {source} is not a setting{_did_you_mean(name, names)}"
                for name in given
                if name not in names
            ]
        known = [name for setting in table for name in setting.env] + ["GATEWAY_CONFIG"]
        for name, value in self.environ.items():
            if name.startswith("GATEWAY_") and name not in known and not _is_service_link(name, value):
                self.faults.append(f"{name!r} in the environment is not a setting{_did_you_mean(name, known)}")

    def read(self, setting: Setting) -> None:
        """Reads the setting from its first source that has it, and keeps the value or the fault."""
        for value, origin in self.given(setting):
            if value == "":
                continue
            try:
                self.values[setting.name] = setting.reader.read(value, self.environ)
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
        """The settings that were valid, with defaults for the others until the faults are raised."""
        groups = {group: cls(**self.values_of(f"{group}.")) for group, cls in GROUPS.items()}
        return Settings(data_dir=self.values.get("data_dir", Path()), origins=MappingProxyType(self.origins), **groups)

    def values_of(self, prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): value for name, value in self.values.items() if name.startswith(prefix)}


def default_data_dir(environ: Environ, *, is_root: bool) -> Path:
    """The default data directory. PostgreSQL's account cannot enter root's home."""
    if is_root:
        return Path("/var/lib/llm-gateway")
    data_home = environ.get("XDG_DATA_HOME", "")
    if data_home.startswith("/") and data_home.isprintable():  # XDG specification: ignore relative paths
        return Path(data_home) / "llm-gateway"
    return Path(home(environ)) / ".local/share/llm-gateway"


def _flat(document: dict[str, Any]) -> dict[str, object]:
    """The document with its tables flattened to `group.key`."""
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
    if setting.reader.is_secret:
        return f"{setting.label}{where}: the value is hidden here; it is not {setting.reader.takes}{because}"
    return f"{setting.label}{where}: {_offending(value)} is not {setting.reader.takes}{because}"


def _offending(value: object) -> str:
    """An invalid value for an error message: short, on one line, without a credential that is there by mistake."""
    if isinstance(value, bool | int | float):
        return str(value).lower()[:80]
    if not isinstance(value, str):
        return (
            f"a {'table' if isinstance(value, dict) else 'list' if isinstance(value, list) else type(value).__name__}"
        )
    text = repr(re.sub(r"\b(sk-|Bearer\s+|Basic\s+)\S+", r"\1***", redacted_url(value)))
    return text if len(text) <= 120 else f"{text[:120]}…"


def _did_you_mean(name: str, known: list[str]) -> str:
    leaf = name.rpartition(".")[2]
    close = [each for each in known if "." in each and each.rpartition(".")[2] == leaf]
    close = close or difflib.get_close_matches(name[:100], known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes made the variable, for a Service named `gateway` or `gateway-…` in the same namespace."""
    if re.match(r"(tcp|udp|sctp)://", value):
        return True
    return re.search(r"_SERVICE_(HOST|PORT)(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?$", name) is not None


def _seed_faults(environ: Environ) -> Iterator[str]:
    """Faults for variables of the original system that select a provider which is not served yet."""
    words = [word for word in re.split(r"[^A-Za-z0-9_]+", environ.get("LLM_TYPE", "")) if word]
    other = [word for word in words if word.upper() not in ("OPEN_AI", "OPENAI")]
    if other:
        yield f"LLM_TYPE (environment only): {' '.join(other)[:120]!r} is not served yet; OPEN_AI is"
