"""The address of an upstream, and the head of a request to it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from gateway.errors import CallerError, NotConfigured

if TYPE_CHECKING:
    from gateway.transport.call import Call
    from gateway.transport.proxy import Proxy

CHAT_PATH = "/chat/completions"
IMAGE_PATH = "/images/generations"

# A request target: no space, no control character, no fragment, nothing beyond ASCII (RFC 9112 section 3.2).
_TARGET = re.compile(r'/[!"$-~]*')
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++(?:,[!#$%&'*+.^_`|~0-9A-Za-z-]++)*+")
_CONTROLS = bytes({*range(32), 127} - {ord("\t")})
_IN_URLS = "!$%&'()*+,-./:;=@_~"  # not escaped; a `%` begins an escape already
_MAX_TARGETS = 256  # in the cache: nearly all calls are for one of a few


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits of an upstream call, in seconds."""

    connect_s: float
    head_s: float  # from the end of the request to the head of the answer
    stall_s: float  # silence within a body, in either direction
    idle_s: float  # how long an idle connection is kept
    stale_s: float = 5.0  # a peer that closes later than this may have worked on the request: no second attempt
    discard_s: float = 1.0  # to read what follows an answer's last event, so that the connection can serve again


@dataclass(frozen=True, slots=True)
class Origin:
    """An upstream's address and the paths below it.

    `prefix` (such as `/v1`) goes before every path, `query` (such as Azure's `api-version`) behind it. `exact` is a
    path and its name at the upstream, from a full endpoint URL; without `prefix` no other path exists. `content_type`
    replaces the caller's for chats and images.
    """

    is_tls: bool
    host: str
    port: int
    prefix: str | None
    query: str = ""
    exact: tuple[str, str] | None = None
    authorization: str | None = None
    content_type: str | None = None
    _host_header: tuple[bytes, bytes] = field(init=False, compare=False, repr=False)
    _targets: dict[str, str] = field(init=False, compare=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_host_header", (b"Host", self.netloc.encode("ascii")))

    @classmethod
    def of_base(cls, url: str, authorization: str | None) -> Origin:
        """From a base URL such as `https://api.openai.com/v1`."""
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        return cls(
            is_tls=is_tls,
            host=parts.hostname or "",
            port=parts.port or (443 if is_tls else 80),
            prefix=quote(parts.path.rstrip("/"), safe=_IN_URLS),
            query=quote(parts.query, safe=_IN_URLS + "?"),
            authorization=authorization,
        )

    @classmethod
    def of_endpoint(cls, url: str, authorization: str | None, path: str = CHAT_PATH, base: str | None = None) -> Origin:
        """From the full URL of the endpoint for `path`.

        The base of all other paths is the same URL without `path`, if it ends in `path`; else `base`, if it is given.
        """
        parts = urlsplit(url)
        if parts.path.rstrip("/").endswith(path):
            return cls.of_base(parts._replace(path=parts.path.rstrip("/").removesuffix(path)).geturl(), authorization)
        whole = cls.of_base(url, authorization)
        prefix = None if base is None else cls.of_base(base, None).prefix
        return replace(whole, prefix=prefix, exact=(path, whole.prefix or "/"))

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    @property
    def site(self) -> str:
        """Scheme, host and port: the beginning of a URL."""
        return f"{'https' if self.is_tls else 'http'}://{self.netloc}"

    def target(self, path: str) -> str:
        """Path and query of the request line, for a path below the base URL. Raises CallerError, NotConfigured."""
        target = self._targets.get(path)
        if target is None:
            target = self._new_target(path)
            if len(self._targets) < _MAX_TARGETS:
                self._targets[path] = target
        return target

    def _new_target(self, path: str) -> str:
        bare, mark, query = path.partition("?")
        if self.exact is not None and bare == self.exact[0]:
            bare = self.exact[1]
        elif self.prefix is None:
            raise NotConfigured(f"this gateway's upstream is a single endpoint, and has no {bare}")
        else:
            bare = self.prefix + bare
        queries = "&".join(part for part in (self.query, query) if part)
        target = f"{bare}?{queries}" if queries or mark else bare
        if not _TARGET.fullmatch(target):
            raise CallerError("the path has characters that a URL cannot have", code="invalid_path")
        check_path(bare)
        return target

    def url(self, path: str) -> str:
        """The whole URL for a path below the base URL. Raises CallerError, NotConfigured."""
        return self.site + self.target(path)

    def headers(self, call: Call) -> list[tuple[bytes, bytes]]:
        """The call's headers, and those that this origin adds. Raises CallerError for a malformed one."""
        headers = [self._host_header, *call.headers, (b"Accept-Encoding", b"identity")]
        if self.authorization is not None and b"authorization" not in [name.lower() for name, _ in call.headers]:
            headers.append((b"Authorization", self.authorization.encode("latin-1")))
        if self.content_type is not None and call.path.partition("?")[0] in (CHAT_PATH, IMAGE_PATH):
            headers = [(name, value) for name, value in headers if name.lower() != b"content-type"]
            headers.append((b"Content-Type", self.content_type.encode("latin-1")))
        if not _are_fields(headers):
            raise CallerError("a header has characters that a header cannot have", code="invalid_header")
        return headers

    def request_head(self, call: Call, content_length: int | None, proxy: Proxy | None = None) -> bytes:
        """Request line and headers, with the empty line that ends them.

        A body of unknown length (None) is chunked. With a proxy the target is the whole URL (RFC 9112 section 3.2.2).
        Raises CallerError, NotConfigured.
        """
        if not _METHOD.fullmatch(call.method):
            raise CallerError("the method is not a valid token", code="invalid_method")
        headers = self.headers(call)
        if content_length is None:
            headers.append((b"Transfer-Encoding", b"chunked"))
        elif content_length or call.method not in ("GET", "HEAD", "DELETE", "OPTIONS"):
            headers.append((b"Content-Length", b"%d" % content_length))
        target = self.target(call.path)
        if proxy is not None:
            target = self.site + target
            headers += proxy.headers
        line = f"{call.method} {target} HTTP/1.1\r\n".encode("ascii")
        return line + b"".join([b"%b: %b\r\n" % header for header in headers]) + b"\r\n"


def _are_fields(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether all names are tokens and no value has control characters (RFC 9110 section 5).

    The server's parser checks the same. This check keeps a caller who gets past it from adding a line to the request.
    """
    values = b"".join([value for _, value in headers])
    names = b",".join([name for name, _ in headers])
    return len(values.translate(None, _CONTROLS)) == len(values) and _NAMES.fullmatch(names) is not None


def check_path(path: str) -> None:
    """Raises CallerError for a path that leads upwards."""
    if has_dot_dot(path):
        raise CallerError("the path leads out of the API", code="invalid_path")


def has_dot_dot(path: str) -> bool:
    """Whether a path has a `..` segment, as it is or as a server may read it.

    `%2e` is a dot (RFC 3986 section 6.2.2.2), and many servers take an escaped slash or a backslash for a slash.
    """
    return (".." in path or "%" in path) and ".." in re.split(r"[/\\;]", unquote(path))
