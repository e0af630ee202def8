"""Strict parser of PostgreSQL URLs. A URL that asyncpg would misread, ignore in part, or refuse at connect is a fault.

Errors are ValueErrors with a text for people. It quotes known parameter names and their invalid values, and no other
part of the URL.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

ENCODE = "in a password, write / as %2F, # as %23, ? as %3F, % as %25 and @ as %40"
MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
WITH_TLS = ("require", "verify-ca", "verify-full")
_VERSIONS = ("ssl_min_protocol_version", "ssl_max_protocol_version")
_TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_OWN_TIMEOUTS = "the gateway has its own timeouts"

# Parameters without effect, and the reason: nobody relies on them.
IGNORED: Mapping[str, str] = {
    "channel_binding": "asyncpg has no channel binding; sslmode=verify-full verifies the server instead",
    "connect_timeout": "GATEWAY_DB_CONNECT_S (store.connect_s) sets this time",
    "fallback_application_name": "the gateway sets application_name itself",
    "client_encoding": "it is always UTF-8",
    "keepalives": _OWN_TIMEOUTS,
    "keepalives_idle": _OWN_TIMEOUTS,
    "keepalives_interval": _OWN_TIMEOUTS,
    "keepalives_count": _OWN_TIMEOUTS,
    "tcp_user_timeout": _OWN_TIMEOUTS,
    "gssencmode": "connections use TLS, never GSSAPI encryption",
    "sslcompression": "TLS is not compressed",
    "sslsni": "the host name is always sent",
    "sslcertmode": "a client certificate is sent if the server requests it",
    "load_balance_hosts": "hosts are tried in the given order",
}
# Values of those that agree with the gateway's behaviour. Clouds give out channel_binding=require; see `_check`.
_HARMLESS: Mapping[str, tuple[str, ...]] = {
    "channel_binding": ("disable", "prefer", "require"),
    "client_encoding": ("auto", "utf8", "utf-8", "unicode"),
    "gssencmode": ("disable", "prefer"),
    "sslcertmode": ("allow",),
}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "sslmode": MODES,
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "target_session_attrs": ("any", "primary", "read-write"),
    "gsslib": ("gssapi",),
}
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
# Parameters that asyncpg interprets or passes to the server.
PASSED = (*_CHOICES, *_FILES, "sslpassword", "krbsrvname", "application_name", "options")
_PLACES = {"host": "host", "port": "port", "user": "user", "password": "password", "dbname": "dbname"}
_PLACES["database"] = "dbname"  # asyncpg's name for it
_REFUSED: Mapping[str, str] = {
    "hostaddr": "set the address as the host",
    "service": "write the service's parameters into the URL",
    "replication": "the gateway does not replicate",
    "requirepeer": "asyncpg does not check the server's account; sslmode=verify-full verifies the server",
    "require_auth": "asyncpg does not restrict the login method; sslmode=verify-full verifies the server",
    "sslcrldir": "set one file as sslcrl",
}


@dataclass(frozen=True, slots=True, repr=False)
class DatabaseUrl:
    """A parsed URL; it is a secret. `parameters`: those that asyncpg understands."""

    hosts: tuple[tuple[str, str], ...]  # (name, address or socket directory; port or empty)
    user: str
    password: str
    database: str
    parameters: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...]  # names of given parameters without effect

    def get(self, name: str) -> str | None:
        return dict(self.parameters).get(name)

    @property
    def trusts_system(self) -> bool:
        """Whether this machine's trusted authorities verify the server's certificate."""
        return self.get("sslrootcert") == "system"

    def for_asyncpg(self) -> str:
        """The same URL in a form that asyncpg reads in exactly one way."""
        user = quote(self.user, safe="") + (f":{quote(self.password, safe='')}" if self.password else "")
        given = list(self.parameters)
        if self.trusts_system:  # the caller passes an SSL context instead
            given = [(name, value) for name, value in given if name not in ("sslrootcert", "sslmode")]
        if any(host for host, _ in self.hosts):
            given.append(("host", ",".join(f"[{host}]" if ":" in host else host for host, _ in self.hosts)))
        if any(port for _, port in self.hosts):
            given.append(("port", ",".join(port or "5432" for _, port in self.hosts)))
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in given)
        # No database, no slash: asyncpg would use the name "" instead of PGDATABASE.
        database = f"/{quote(self.database, safe='')}" if self.database else ""
        return f"postgresql://{user}{'@' if user else ''}{database}{'?' if query else ''}{query}"


def read_url(text: str) -> DatabaseUrl:
    """The parsed URL, after a check that its files are readable. Raises ValueError."""
    if not text.isprintable():
        raise ValueError("it contains control characters, line ends or bytes that are not UTF-8")
    scheme, separator, rest = text.partition("://")
    if scheme.startswith("postgresql+"):
        raise ValueError("it names a driver; write postgresql://")
    if not separator or scheme not in ("postgres", "postgresql"):
        raise ValueError("it does not begin with postgresql://")
    if "#" in rest:
        raise ValueError(f"it contains a # that is not encoded; {ENCODE}")
    front, _, query = rest.partition("?")
    place, _, database = front.partition("/")
    userinfo, _, hosts = place.rpartition("@")
    if "@" in userinfo + database + query or "/" in database:
        raise ValueError(f"it contains a character that is not encoded; {ENCODE}")
    user, _, password = userinfo.partition(":")
    found = {"user": _decoded(user), "password": _decoded(password), "dbname": _decoded(database)}
    given = _parameters(query, found)
    if hosts:
        found |= dict(zip(("host", "port"), _split_hosts(hosts), strict=True))
    for name in [name for name in given if name in _PLACES]:
        where = _PLACES[name]
        if found.get(where):
            raise ValueError(f"its {where} is given twice")
        found[where] = given.pop(name)
    return _check(found, given)


def _check(found: dict[str, str], given: dict[str, str]) -> DatabaseUrl:
    if given.pop("ssl", None):
        given.setdefault("sslmode", "require")
    ignored = tuple(name for name in given if name in IGNORED)
    for name in ignored:
        value = given.pop(name)
        if name in _HARMLESS and value.lower() not in _HARMLESS[name]:
            raise ValueError(f"{name} can only be {_either(_HARMLESS[name])}: {IGNORED[name]}")
        if name == "channel_binding" and value == "require" and given.get("sslmode") not in WITH_TLS:
            raise ValueError(f"channel_binding=require needs sslmode={_either(WITH_TLS)} beside it")
    for name, choices in _CHOICES.items():
        if name in given and given[name] not in choices:
            why = ": the gateway writes" if name == "target_session_attrs" else ""
            raise ValueError(f"{name} can only be {_either(choices)}{why}")
    if given.get("sslrootcert") == "system":
        if given.setdefault("sslmode", "verify-full") != "verify-full":
            raise ValueError("sslrootcert=system needs sslmode=verify-full")
        beside = next((name for name in ("sslcrl", "sslnegotiation", *_VERSIONS) if name in given), None)
        if beside:
            raise ValueError(f"sslrootcert=system cannot have {beside} beside it")
    for name in _FILES:
        if given.get(name) not in (None, "", "system"):
            _check_file(name, Path(given[name]))
    return DatabaseUrl(
        _hosts(found.get("host", ""), found.get("port", "")),
        found["user"],
        found["password"],
        found["dbname"],
        tuple(given.items()),
        ignored,
    )


def _decoded(text: str) -> str:
    """The text with %XX decoded as in libpq: + stays +."""
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", text):
        raise ValueError(f"it contains a % that is not encoded; {ENCODE}")
    try:
        return unquote_to_bytes(text).decode()
    except ValueError:
        raise ValueError("its %-encoded bytes are not UTF-8") from None


def _parameters(query: str, found: Mapping[str, str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, sign, value = pair.partition("=")
        if not sign or not re.fullmatch(r"[a-z_]{2,40}", name):
            raise ValueError(f"the part after ? is not a list of parameters such as sslmode=require; {ENCODE}")
        if name in given:
            raise ValueError(f"it has {name} twice" if name in KNOWN else "it has a parameter twice")
        if name in _REFUSED:
            raise ValueError(f"it cannot have {name}: {_REFUSED[name]}")
        if name == "ssl" and value != "true":
            raise ValueError("ssl can only be true; use sslmode for more")
        if name not in KNOWN:
            # It may be a part of a password that is not encoded.
            named = repr(name) if "password" not in given and "sslpassword" not in given else "one of its parameters"
            raise ValueError(f"{named} is unknown; write settings of the server as options=-c%20name%3Dvalue")
        given[name] = _decoded(value)
    return {name: value for name, value in given.items() if value}


KNOWN = frozenset((*IGNORED, *PASSED, *_PLACES, "ssl"))


def _split_hosts(text: str) -> tuple[str, str]:
    """Hosts and ports, each separated by commas."""
    hosts, ports = [], []
    for each in text.split(","):
        match = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([^:]*))?", each)
        if match is None:
            raise ValueError(f"its host cannot be read; {ENCODE}")
        hosts.append(_decoded(match[1]))
        ports.append(_decoded(match[2] or ""))
    return ",".join(hosts) if any(hosts) else "", ",".join(ports) if any(ports) else ""


def _hosts(hosts: str, ports: str) -> tuple[tuple[str, str], ...]:
    """Each host with its port. Both may be empty, and one port is enough for all hosts."""
    names = hosts.split(",")
    numbers = ports.split(",")
    if len(numbers) == 1:
        numbers *= len(names)
    if len(numbers) != len(names):
        raise ValueError("it does not have as many ports as hosts")
    for number in numbers:
        if number and not (re.fullmatch(r"[0-9]{1,5}", number) and 0 < int(number) < 65536):
            raise ValueError(f"its port is not a number from 1 to 65535; {ENCODE}")
    if len(names) > 1 and not all(names):
        raise ValueError("one of its hosts has no name")
    return tuple(zip(map(_host, names), numbers, strict=True))


def _host(name: str) -> str:
    if not name or name.startswith("/"):
        return name
    is_bracketed = name.startswith("[") and name.endswith("]")
    bare = name[1:-1] if is_bracketed else name
    if not is_bracketed and ":" not in bare and re.fullmatch(r"[^\s\[\]/\\?%]{1,253}", bare):
        return bare
    try:
        ipaddress.IPv6Address(bare)
    except ValueError:
        raise ValueError(f"its host cannot be read; {ENCODE}") from None
    return bare


def _check_file(name: str, path: Path) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ValueError(f"its {name} {str(path)!r} cannot be read ({reason})") from None
    if name == "passfile" and path.stat().st_mode & 0o077:
        raise ValueError(
            f"its passfile {str(path)!r} is readable by others and therefore ignored; set its mode to 0600"
        )


def _either(values: tuple[str, ...]) -> str:
    return f"{', '.join(values[:-1])} or {values[-1]}" if len(values) > 1 else values[0]
