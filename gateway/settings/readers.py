"""The reader of each setting, by name. Pure, except for the files that contain secrets.

A reader returns the value, or raises ValueError with a text for people; it never contains a secret.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from gateway.settings import kinds, secret
from gateway.settings.kinds import Environ, Reader

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
CHAT_PATH = "/chat/completions"
_LONGEST_SECONDS = 31_536_000  # a year; far larger numbers overflow the event loop's timers
_LARGEST_BODY = 1 << 30  # the journal's frames have a length of 32 bits
_RESERVED_HEADERS = frozenset(
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
_NEVER_FORWARDED = _RESERVED_HEADERS - {"x-forwarded-for", "content-type"} | {"x-goog-api-key", "x-conversation-id"}


def _as_host(value: object, _: Environ) -> str:
    text = kinds.as_text(value).removeprefix("[").removesuffix("]")
    if not kinds.is_host(text):
        raise ValueError
    return text


def _as_host_name(item: str) -> str:
    if not kinds.is_host(item):
        raise ValueError(f"{item[:60]!r} is not a host name; leave out scheme and port")
    return item.lower()


def _as_proxy(value: object, environ: Environ) -> str:
    text = kinds.as_text(value)
    return str(_PROXY_URL.read(text if "://" in text else f"http://{text}", environ))


def _as_base_url(value: object, environ: Environ) -> str:
    url = str(PLAIN_URL.read(value, environ))
    if url.endswith(CHAT_PATH):
        raise ValueError(f"it ends in {CHAT_PATH}: set it as LLM_ENDPOINT, or remove that part")
    return url


_PRICE = r"[0-9]{1,6}(\.[0-9]{1,9})?"


def _as_prices(value: object, _: Environ) -> tuple[tuple[str, float], ...]:
    if isinstance(value, tuple | dict):
        value = [f"{size}={price}" for size, price in dict(value).items()]
    found: dict[str, float] = {}
    for item in kinds.items(value):
        size, _sign, price = (part.strip() for part in item.partition("="))
        if not re.fullmatch(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", size):
            raise ValueError(f"{size[:40]!r} is not a size such as 1024x1024")
        if not re.fullmatch(_PRICE, price):
            raise ValueError(f"{price[:40]!r} is not a price in USD such as 0.02")
        found[size] = float(price)
    if not found:
        raise ValueError
    return tuple(found.items())


def _prices_text(prices: tuple[tuple[str, float], ...]) -> str:
    return ", ".join(f"{size}={price:g}" for size, price in prices)


def _as_token_prices(value: object, _: Environ) -> tuple[tuple[str, tuple[float, float, float]], ...]:
    """Prices by model: prompt, cached prompt (by default the price of a prompt), answer."""
    if isinstance(value, tuple | dict):
        value = [f"{model}={prices}" for model, prices in dict(value).items()]
    found: dict[str, tuple[float, float, float]] = {}
    for item in kinds.items(value):
        model, _sign, text = (part.strip() for part in item.rpartition("="))
        prices = text.split("/")
        if not model or len(prices) not in (2, 3) or not all(re.fullmatch(_PRICE, price) for price in prices):
            raise ValueError(f"{item[:60]!r} is not a price such as gpt-5=1.25/10 or gpt-5=1.25/0.125/10")
        numbers = [float(price) for price in prices]
        found[model] = (numbers[0], numbers[-2], numbers[-1])
    return tuple(found.items())


def _token_prices_text(prices: tuple[tuple[str, tuple[float, float, float]], ...]) -> str:
    return ", ".join(f"{model}={'/'.join(f'{each:g}' for each in three)}" for model, three in prices)


def _as_network(item: str) -> Network:
    try:
        network = ipaddress.ip_network(item)
    except ValueError:
        raise ValueError(f"{item[:40]!r} is not a network such as 10.1.0.0/16 or 10.1.2.3") from None
    if network.prefixlen == 0:
        raise ValueError(f"{item[:40]!r} includes every address")
    return network


def _as_networks_or_none(value: object, environ: Environ) -> tuple[Network, ...]:
    if isinstance(value, tuple):
        value = [str(network) for network in value]
    found: tuple[Network, ...] = () if value == "none" else NETWORKS.read(value, environ)
    return found


def _as_header_name(value: object, _: Environ) -> str:
    name = kinds.as_text(value)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,63}", name):
        raise ValueError
    if name.lower() in _RESERVED_HEADERS:
        raise ValueError("this header has another meaning already")
    return name


def _as_header_pattern(item: str) -> str:
    """A header's name, or a prefix of at least three characters followed by `*`."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}|[A-Za-z0-9_-]{3,64}\*", item):
        raise ValueError(f"{item[:80]!r} is neither a header's name nor a prefix of three or more characters with `*`")
    if item.lower() in _NEVER_FORWARDED:
        raise ValueError(f"{item!r} is never forwarded; GATEWAY_PASS_CREDENTIALS is for callers' own credentials")
    return item.lower()


def _as_name(value: object, _: Environ) -> str:
    text = kinds.as_text(value)
    if not 0 < len(text) <= 256:
        raise ValueError
    return text


def _as_issuer(value: object, _: Environ) -> str:
    """The issuer, unchanged: a token's `iss` must be exactly equal, including a final slash."""
    text = kinds.as_text(value)
    if kinds.split_url(text, ("http", "https")).netloc.count("@"):
        raise ValueError("it contains credentials")
    if "?" in text or "#" in text:
        raise ValueError("it has a query or a fragment")
    return text


def _as_origin(item: str) -> str:
    """The origin in the form of the Origin header (RFC 6454 section 6.2)."""
    parts = kinds.split_url(item.rstrip("/"), ("http", "https"))
    if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{item[:80]!r} has more than scheme, host and port")
    is_usual = parts.port == {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{parts.netloc.lower().rpartition(':')[0] if is_usual else parts.netloc.lower()}"


def _as_use_cases(value: object, environ: Environ) -> tuple[Mapping[str, str], ...]:
    """TOML tables, or JSON in the environment."""
    if isinstance(value, str):
        text = secret.dereferenced(value, environ)
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
        raise ValueError("each must have a `name`, a `prompt` and optionally a `description`, and nothing else")
    return MappingProxyType({"description": "", **value})


def _as_media_type(value: object, _: Environ) -> str:
    text = kinds.as_text(value)
    if not re.fullmatch(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+( *; *[ -~]+)?", text, re.ASCII):
        raise ValueError
    return text


def _as_path(value: object, environ: Environ) -> Path:
    text = kinds.as_text(value)
    if text == "~" or text.startswith("~/"):
        text = f"{kinds.home(environ)}{text[1:]}"
    return Path(text).absolute()


AUTH_MODES = kinds.list_of("a list of open, keys, jwt, header", kinds.one_of("open", "keys", "jwt", "header"), least=1)
ALGORITHMS = kinds.list_of("a list of EdDSA, ES256, RS256", kinds.one_of("EdDSA", "ES256", "RS256"), least=1)
NETWORKS = kinds.list_of("a list of networks such as 10.1.0.0/16, separated by commas", _as_network)
NETWORKS_OR_NONE = Reader("`none`, or " + NETWORKS.takes, _as_networks_or_none, NETWORKS.show)
NAMES = kinds.list_of("a list of names separated by commas")
PRICES = Reader("a list of sizes and prices such as 1024x1024=0.02, separated by commas", _as_prices, _prices_text)
NAME = Reader("a name of at most 256 characters", _as_name)
TOKEN_PRICES = Reader(
    "a list of models and prices such as gpt-5=1.25/10, separated by commas", _as_token_prices, _token_prices_text
)
HEADER_NAME = Reader("a header's name such as X-Forwarded-User", _as_header_name)
HEADER_PATTERNS = kinds.list_of(
    "a list of headers' names such as x-corp-team or x-corp-*, separated by commas", _as_header_pattern
)
ISSUER = Reader("the URL of an OpenID issuer, without query", _as_issuer)
LEEWAY = kinds.number("a number of seconds above 0, at most 300", 300)
ORIGINS = kinds.list_of("a list of origins such as https://chat.example, separated by commas", _as_origin)
USE_CASES = Reader(
    "a list of use cases, each with a name and a prompt (in the environment as JSON, or file:/path)",
    _as_use_cases,
    lambda values: ", ".join(each["name"] for each in values),
)
PLAIN_URL = kinds.url("a URL such as https://host.example, without query")
ENDPOINT = kinds.url("the whole URL of an endpoint, such as https://host.example/v1/chat/completions", query=True)
ANY_ENDPOINT = kinds.url("the whole URL of an endpoint, such as https://host.example/submissions", query=True)
LINK = kinds.url("the URL of a page, such as https://host.example/policy", query=True)
_PROXY_URL = kinds.url("", credentials=True)
PROXY = Reader("the URL of an HTTP proxy, such as http://proxy.example:3128", _as_proxy, kinds.redacted_url)
BASE_URL = Reader("a base URL such as https://host.example/v1", _as_base_url, kinds.redacted_url)
HOST = Reader("a host name or an IP address", _as_host)
HOSTS = kinds.list_of("a list of host names such as llm.corp.example, separated by commas", _as_host_name)
HOST_LIST = Reader("a list of host names separated by commas", kinds.as_text)
PORT = kinds.whole_number(0, 65535)
WORKERS = kinds.whole_number(1, 256)
DEPTH = kinds.whole_number(1, 1000)
CALLS = kinds.whole_number(1, 256)
POOL_MIN = kinds.whole_number(0, 1000)
POOL_MAX = kinds.whole_number(1, 1000)
FLAG = Reader("true or false", kinds.as_flag, lambda value: "true" if value else "false")
SECONDS = kinds.number("a number of seconds above 0", _LONGEST_SECONDS)
SECONDS_OR_NONE = kinds.number("a number of seconds, 0 or above", _LONGEST_SECONDS, may_be_zero=True)
RATE = kinds.number("a number above 0", 1e6)
SIZE = kinds.size(0, 1 << 50)
BODY_SIZE = kinds.size(1, _LARGEST_BODY)
SEGMENT_SIZE = kinds.size(4096, _LARGEST_BODY)
INLINE_SIZE = kinds.size(0, _LARGEST_BODY)
PATH = Reader("a path", _as_path)
MEDIA_TYPE = Reader("a media type such as application/json", _as_media_type)
SYNC = kinds.choice("group", "interval", "none")
WHEN_FULL = kinds.choice("refuse", "serve")
LOG_FORMAT = kinds.choice("auto", "json", "text")
LOG_LEVEL = kinds.choice("debug", "info", "warning", "error", "critical")
HEADER_SECRET = Reader(
    "printable ASCII, or a reference file:/path or env:NAME", secret.as_header_secret, is_secret=True
)
ADMIN_KEY = Reader("a random text, or a reference file:/path or env:NAME", secret.as_admin_key, is_secret=True)
DATABASE_URL = Reader(
    "postgresql://user:password@host/database, or a reference file:/path or env:NAME",
    secret.as_database_url,
    is_secret=True,
)
