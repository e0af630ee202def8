"""What a setting takes: a reader for each form of value, pure but for the files that secrets lie in.

Each reader gives the value or raises ValueError, whose text may be shown: it never holds a secret.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from gateway.settings.database_url import read_url

if TYPE_CHECKING:
    from collections.abc import Callable

    Environ = Mapping[str, str]
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CHAT_PATH = "/chat/completions"

_LONGEST_SECONDS = 31_536_000  # a year; far larger numbers overflow the event loop's timers
_LARGEST_BODY = 1 << 30  # the journal's frames count their length in 32 bits
_LARGEST_SECRET_FILE = 65_536
_TAKEN_HEADERS = frozenset(
    (
        "api-key",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "host",
        "transfer-encoding",
        "x-api-key",
        "x-forwarded-for",
        "x-request-id",
    )
)

_NEVER_SENT_ON = _TAKEN_HEADERS - {"x-forwarded-for", "content-type"} | {"x-goog-api-key", "x-conversation-id"}


class Secret:
    """A text that is shown to nobody by accident. Only `reveal` gives it away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __str__(self) -> str:
        return "(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class Reader(NamedTuple):
    """What a setting takes: how to read it, how to show it, and the words for what would have been right."""

    takes: str
    read: Callable[[object, Environ], Any]
    show: Callable[[Any], str] = str
    is_secret: bool = False


def redacted_url(text: str) -> str:
    """The URL without what must not be shown: user and password, and query values whose names speak of secrets."""
    text = re.sub(r"^([A-Za-z][A-Za-z0-9+.\-]*://)?.*@", r"\1***@", text, flags=re.DOTALL)
    telling = "key|token|secret|sig|pass|auth|code|cred"
    return re.sub(rf"([?&#][^=&#]*(?:{telling})[^=&#]*=)[^&#]*", r"\1***", text, flags=re.IGNORECASE)


def _as_text(value: object, _: Environ | None = None) -> str:
    """A clean text; what cannot be encoded or printed would break later, in a header, a log line or a query."""
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - one error for whatever is not right
    text = value.strip()
    if not text.isprintable():
        raise ValueError("it holds control characters, line ends or bytes that are not UTF-8")
    return text


def as_flag(value: object, _: Environ) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, int | str) else ""
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError


def _whole(low: int, high: int) -> Reader:
    def read(value: object, _: Environ) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError
        return value

    return Reader(f"a whole number from {low} to {high}", read)


def _number(takes: str, highest: float, *, may_be_zero: bool = False) -> Reader:
    def read(value: object, _: Environ) -> float:
        if isinstance(value, str) and re.fullmatch(
            r"[0-9]{0,18}\.?[0-9]{1,18}(e[+-]?[0-9]{1,2})?", value.strip().lower()
        ):
            value = float(value)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError
        if not 0 <= value <= highest or (value == 0 and not may_be_zero):
            raise ValueError
        return float(value)

    return Reader(takes, read, lambda value: f"{value:g}")


_UNITS = {"": 1, "b": 1}
_UNITS |= {
    f"{letter}{tail}": base**power
    for power, letter in enumerate("kmgt", 1)
    for tail, base in (("b", 1000), ("ib", 1024))
}


def _as_size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,18})(\.[0-9]{1,9})?\s*([kmgt]?i?b?)", value.strip().lower())
        if match and match[3] in _UNITS:
            return int(match[1]) * _UNITS[match[3]] + int(float(match[2] or 0) * _UNITS[match[3]])
    raise ValueError


def shown_size(value: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value and value % unit == 0:
            return f"{value // unit}{name}"
    return str(value)


def _size(low: int, high: int) -> Reader:
    def read(value: object, _: Environ) -> int:
        size = _as_size(value)
        if not low <= size <= high:
            raise ValueError(f"it is not between {shown_size(low)} and {shown_size(high)}")
        return size

    return Reader('a size such as "64MiB", "10MB" or a number of bytes', read, shown_size)


def _choice(*words: str) -> Reader:
    def read(value: object, _: Environ) -> str:
        word = _as_text(value).lower()
        if word not in words:
            raise ValueError
        return word

    return Reader(f"one of {', '.join(words)}", read)


def _as_host(value: object, _: Environ) -> str:
    text = _as_text(value).removeprefix("[").removesuffix("]")
    if not _is_host(text):
        raise ValueError
    return text


def _as_host_name(item: str) -> str:
    if not _is_host(item):
        raise ValueError(f"{item[:60]!r} is no name of a host; it has neither scheme nor port")
    return item.lower()


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})", text) is not None
    return True


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _split(text: str, schemes: tuple[str, ...]) -> SplitResult:
    if re.search(r"[\s\\]", text):
        raise ValueError("it holds a space or a backslash")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("its host or port cannot be read") from None
    if parts.scheme not in schemes:
        raise ValueError(f"it does not begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if not parts.hostname or not _is_host(parts.hostname) or port == 0:
        raise ValueError("it names no host that can be reached")
    return parts


def _url(takes: str, *, query: bool = False, credentials: bool = False) -> Reader:
    def read(value: object, _: Environ) -> str:
        parts = _split(_as_text(value), ("http", "https"))
        if not credentials and "@" in parts.netloc:
            raise ValueError("it holds credentials, which belong in a setting of their own")
        if parts.netloc.endswith(":"):  # as of http://user:/password@host
            raise ValueError("its port is missing")
        if parts.fragment or (parts.query and not query):
            raise ValueError("it has a fragment" if query else "it has a query or a fragment")
        return parts.geturl().rstrip("/")

    return Reader(takes, read, redacted_url)


def _as_proxy(value: object, environ: Environ) -> str:
    text = _as_text(value)
    return str(_PROXY_URL.read(text if "://" in text else f"http://{text}", environ))


def _as_base_url(value: object, environ: Environ) -> str:
    url = str(PLAIN_URL.read(value, environ))
    if url.endswith(CHAT_PATH):
        raise ValueError(f"it ends in {CHAT_PATH}: give it as LLM_ENDPOINT, or leave that part out")
    return url


def _items(value: object) -> list[str]:
    """A list of texts: of TOML, or one text with commas between them."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple):
        raise ValueError  # noqa: TRY004 - as above
    texts = [_as_text(item) for item in value]
    return [text for text in texts if text]


def _list(takes: str, read_one: Callable[[str], Any] = str, *, least: int = 0) -> Reader:
    def read(value: object, _: Environ) -> tuple[Any, ...]:
        found = tuple(dict.fromkeys(read_one(item) for item in _items(value)))
        if len(found) < least:
            raise ValueError
        return found

    return Reader(takes, read, lambda values: ", ".join(map(str, values)))


_PRICE = r"[0-9]{1,6}(\.[0-9]{1,9})?"


def _as_prices(value: object, _: Environ) -> tuple[tuple[str, float], ...]:
    if isinstance(value, tuple | dict):
        value = [f"{size}={price}" for size, price in dict(value).items()]
    found: dict[str, float] = {}
    for item in _items(value):
        size, _sign, price = (part.strip() for part in item.partition("="))
        if not re.fullmatch(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", size):
            raise ValueError(f"{size[:40]!r} is no size; 1024x1024 would be one")
        if not re.fullmatch(_PRICE, price):
            raise ValueError(f"{price[:40]!r} is no price in USD; 0.02 would be one")
        found[size] = float(price)
    if not found:
        raise ValueError
    return tuple(found.items())


def _shown_prices(prices: tuple[tuple[str, float], ...]) -> str:
    return ", ".join(f"{size}={price:g}" for size, price in prices)


def _as_token_prices(value: object, _: Environ) -> tuple[tuple[str, tuple[float, float, float]], ...]:
    """By model: of a prompt, of a cached one (as any other, where it is not said), of an answer."""
    if isinstance(value, tuple | dict):
        value = [f"{model}={prices}" for model, prices in dict(value).items()]
    found: dict[str, tuple[float, float, float]] = {}
    for item in _items(value):
        model, _sign, text = (part.strip() for part in item.rpartition("="))
        prices = text.split("/")
        if not model or len(prices) not in (2, 3) or not all(re.fullmatch(_PRICE, price) for price in prices):
            raise ValueError(f"{item[:60]!r} is none; gpt-5=1.25/10 or gpt-5=1.25/0.125/10 would be")
        numbers = [float(price) for price in prices]
        found[model] = (numbers[0], numbers[-2], numbers[-1])
    return tuple(found.items())


def _shown_token_prices(prices: tuple[tuple[str, tuple[float, float, float]], ...]) -> str:
    return ", ".join(f"{model}={'/'.join(f'{each:g}' for each in three)}" for model, three in prices)


def _one_of(*words: str) -> Callable[[str], str]:
    known = {word.lower(): word for word in words}

    def read(item: str) -> str:
        word = known.get(item.lower())
        if word is None:
            raise ValueError(f"{item[:40]!r} is none of them")
        return word

    return read


def _as_network(item: str) -> Network:
    try:
        network = ipaddress.ip_network(item)
    except ValueError:
        raise ValueError(f"{item[:40]!r} is no network; 10.1.0.0/16 or 10.1.2.3 would be") from None
    if network.prefixlen == 0:
        raise ValueError(f"{item[:40]!r} is every address there is")
    return network


def _as_networks_or_none(value: object, environ: Environ) -> tuple[Network, ...]:
    if isinstance(value, tuple):
        value = [str(network) for network in value]
    found: tuple[Network, ...] = () if value == "none" else NETWORKS.read(value, environ)
    return found


def _as_header_name(value: object, _: Environ) -> str:
    name = _as_text(value)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,63}", name):
        raise ValueError
    if name.lower() in _TAKEN_HEADERS:
        raise ValueError("it has another meaning already")
    return name


def _as_header_pattern(item: str) -> str:
    """A header's name, or its first three characters or more with a `*` behind them."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}|[A-Za-z0-9_-]{3,64}\*", item):
        raise ValueError(f"{item[:80]!r} is no header's name, nor three characters or more of one and a `*`")
    if item.lower() in _NEVER_SENT_ON:
        raise ValueError(f"{item!r} is never sent on; GATEWAY_PASS_CREDENTIALS is for callers' own credentials")
    return item.lower()


def _as_name(value: object, _: Environ) -> str:
    text = _as_text(value)
    if not 0 < len(text) <= 256:
        raise ValueError
    return text


def _as_issuer(value: object, _: Environ) -> str:
    """Kept to the letter: a token's `iss` must be the very same text, also in whether it ends in a slash."""
    text = _as_text(value)
    if _split(text, ("http", "https")).netloc.count("@"):
        raise ValueError("it holds credentials")
    if "?" in text or "#" in text:
        raise ValueError("it has a query or a fragment")
    return text


def _as_origin(item: str) -> str:
    """An origin as browsers write it in their Origin header (RFC 6454 section 6.2)."""
    parts = _split(item.rstrip("/"), ("http", "https"))
    if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{item[:80]!r} is more than scheme, host and port")
    is_usual = parts.port == {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{parts.netloc.lower().rpartition(':')[0] if is_usual else parts.netloc.lower()}"


def _as_use_cases(value: object, environ: Environ) -> tuple[Mapping[str, str], ...]:
    """Tables of TOML, or their JSON in the environment."""
    if isinstance(value, str):
        text = _dereferenced(value, environ)
        try:
            value = json.loads(text) if text.strip() else []
        except (ValueError, RecursionError) as error:
            raise ValueError("it is not JSON") from error
    if not isinstance(value, list | tuple):
        raise ValueError  # noqa: TRY004 - as above
    found = tuple(_as_use_case(each) for each in value)
    if len({each["name"] for each in found}) < len(found):
        raise ValueError("two of them have the same name")
    return found


def _as_use_case(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("one of them is not a table of texts")
    unknown = value.keys() - {"name", "prompt", "description"}
    if unknown or not value.get("name") or "prompt" not in value:
        raise ValueError("each has a `name`, a `prompt` and perhaps a `description`, and nothing else")
    return MappingProxyType({"description": "", **value})


def _as_media_type(value: object, _: Environ) -> str:
    text = _as_text(value)
    if not re.fullmatch(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+( *; *[ -~]+)?", text, re.ASCII):
        raise ValueError
    return text


def _as_path(value: object, environ: Environ) -> Path:
    text = _as_text(value)
    if text == "~" or text.startswith("~/"):
        text = f"{home(environ)}{text[1:]}"
    return Path(text).absolute()


def home(environ: Environ) -> str:
    try:
        return environ.get("HOME") or str(Path.home())
    except RuntimeError:
        raise ValueError("the home directory is not known: set HOME") from None


def _dereferenced(value: object, environ: Environ) -> str:
    """The secret itself, or what a `file:` or `env:` reference leads to. Errors name the place, never the content."""
    if not isinstance(value, str):
        raise ValueError("it is not a text")  # noqa: TRY004 - as above
    text = value.strip()
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        if not environ.get(name):
            raise ValueError(f"the environment variable {name!r} that it refers to is not set")
        return environ[name]
    if text.startswith("file:"):
        return _secret_file(_as_text(text.removeprefix("file:")))
    return value


def _secret_file(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LARGEST_SECRET_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ValueError(f"the file {path!r} that it refers to cannot be read ({reason})") from None
    if len(content) > _LARGEST_SECRET_FILE:
        raise ValueError(f"the file {path!r} that it refers to is larger than {_LARGEST_SECRET_FILE} bytes")
    text = content.decode("utf-8", "surrogateescape").rstrip("\r\n")
    if not text:
        raise ValueError(f"the file {path!r} that it refers to is empty")
    return text


def _as_header_secret(value: object, environ: Environ) -> Secret:
    text = _dereferenced(value, environ)
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", text):
        raise ValueError("it has a control character, a line end, outer spaces or a letter outside ASCII")
    return Secret(text)


def _as_admin_key(value: object, environ: Environ) -> Secret:
    """Its SHA-256 in hexadecimal: the key itself is kept nowhere."""
    text = _dereferenced(value, environ).strip()
    if not re.fullmatch(r"[A-Za-z0-9_+/=-]{32,256}", text):
        raise ValueError("it has fewer than 32 characters, more than 256, or some that are not A-Z a-z 0-9 _ + / = -")
    if len(set(text)) < 10 or text in (text + text)[1:-1]:
        raise ValueError("it is easily guessed: `openssl rand -hex 24` makes one that is not")
    return Secret(sha256(text.encode()).hexdigest())


def _as_database_url(value: object, environ: Environ) -> Secret:
    text = _dereferenced(value, environ).strip()
    read_url(text)
    return Secret(text)


AUTH_MODES = _list("a list of open, keys, jwt, header", _one_of("open", "keys", "jwt", "header"), least=1)
ALGORITHMS = _list("a list of EdDSA, ES256, RS256", _one_of("EdDSA", "ES256", "RS256"), least=1)
NETWORKS = _list("a list of networks such as 10.1.0.0/16, with commas between them", _as_network)
NETWORKS_OR_NONE = Reader("`none`, or " + NETWORKS.takes, _as_networks_or_none, NETWORKS.show)
NAMES = _list("a list of names with commas between them")
PRICES = Reader(
    "a list of sizes and prices such as 1024x1024=0.02, with commas between them", _as_prices, _shown_prices
)
NAME = Reader("a name of at most 256 characters", _as_name)
TOKEN_PRICES = Reader(
    "a list of models and prices such as gpt-5=1.25/10, with commas between them", _as_token_prices, _shown_token_prices
)
HEADER_NAME = Reader("a header's name such as X-Forwarded-User", _as_header_name)
HEADER_PATTERNS = _list(
    "a list of headers' names such as x-corp-team or x-corp-*, with commas between them", _as_header_pattern
)
ISSUER = Reader("the URL of an OpenID issuer, without query", _as_issuer)
LEEWAY = _number("a number of seconds above 0, at most 300", 300)
ORIGINS = _list("a list of origins such as https://chat.example, with commas between them", _as_origin)
USE_CASES = Reader(
    "a list of use cases, each with a name and a prompt (in the environment as JSON, or file:/path)",
    _as_use_cases,
    lambda values: ", ".join(each["name"] for each in values),
)
PLAIN_URL = _url("a URL such as https://host.example, without query")
ENDPOINT = _url("the whole URL of an endpoint, such as https://host.example/v1/chat/completions", query=True)
ANY_ENDPOINT = _url("the whole URL of an endpoint, such as https://host.example/submissions", query=True)
LINK = _url("the URL of a page, such as https://host.example/policy", query=True)
_PROXY_URL = _url("", credentials=True)
PROXY = Reader("the URL of an HTTP proxy, such as http://proxy.example:3128", _as_proxy, redacted_url)
BASE_URL = Reader("a base URL such as https://host.example/v1", _as_base_url, redacted_url)
HOST = Reader("a host name or an IP address", _as_host)
HOSTS = _list("a list of host names such as llm.corp.example, with commas between them", _as_host_name)
HOST_LIST = Reader("a list of host names with commas between them", _as_text)
PORT = _whole(0, 65535)
WORKERS = _whole(1, 256)
DEPTH = _whole(1, 1000)
CALLS = _whole(1, 256)
POOL_MIN = _whole(0, 1000)
POOL_MAX = _whole(1, 1000)
FLAG = Reader("true or false", as_flag, lambda value: "true" if value else "false")
SECONDS = _number("a number of seconds above 0", _LONGEST_SECONDS)
SECONDS_OR_NONE = _number("a number of seconds, 0 or above", _LONGEST_SECONDS, may_be_zero=True)
RATE = _number("a number above 0", 1e6)
SIZE = _size(0, 1 << 50)
BODY_SIZE = _size(1, _LARGEST_BODY)
SEGMENT_SIZE = _size(4096, _LARGEST_BODY)
INLINE_SIZE = _size(0, _LARGEST_BODY)
PATH = Reader("a path", _as_path)
MEDIA_TYPE = Reader("a media type such as application/json", _as_media_type)
SYNC = _choice("group", "interval", "none")
WHEN_FULL = _choice("refuse", "serve")
LOG_FORMAT = _choice("auto", "json", "text")
LOG_LEVEL = _choice("debug", "info", "warning", "error", "critical")
HEADER_SECRET = Reader(
    "printable ASCII, or a file:/path or env:NAME that leads to it", _as_header_secret, is_secret=True
)
ADMIN_KEY = Reader("a random text, or a file:/path or env:NAME that leads to it", _as_admin_key, is_secret=True)
DATABASE_URL = Reader(
    "postgresql://user:password@host/database, or a file:/path or env:NAME that leads to it",
    _as_database_url,
    is_secret=True,
)
