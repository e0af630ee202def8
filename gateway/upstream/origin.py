"""Where an upstream lives, and the head of a request to it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.errors import CallerError, NotConfigured

if TYPE_CHECKING:
    from gateway.upstream.provider import Call

# What may stand in a request line: no space, no control character, nothing beyond ASCII (RFC 9112 section 3.2).
_TARGET = re.compile(r"/[\x21-\x7e]*\Z")
CHAT_PATH = "/chat/completions"


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: to connect, to wait for a head, to bear silence within a body, to keep an idle connection."""

    connect_s: float
    head_s: float
    stall_s: float
    idle_s: float


@dataclass(frozen=True, slots=True)
class Origin:
    """An upstream's address and the paths below it.

    `prefix` stands before every path (such as `/v1`), `query` is added to each (Azure's `api-version`); `only` names the one
    target that there is, where no more than a full endpoint URL is known.
    """

    is_tls: bool
    host: str
    port: int
    prefix: str
    query: str = ""
    only: str | None = None
    authorization: str | None = None

    @classmethod
    def of_base(cls, url: str, authorization: str | None) -> Origin:
        """From a base URL such as `https://api.openai.com/v1`."""
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        return cls(
            is_tls=is_tls,
            host=parts.hostname or "",
            port=parts.port or (443 if is_tls else 80),
            prefix=parts.path.rstrip("/"),
            query=parts.query,
            authorization=authorization,
        )

    @classmethod
    def of_endpoint(cls, url: str, authorization: str | None) -> Origin:
        """From the full URL of one endpoint; a chat-completions URL tells the base of all the others too."""
        parts = urlsplit(url)
        path = parts.path.rstrip("/")
        base = cls.of_base(parts._replace(path=path.removesuffix(CHAT_PATH)).geturl(), authorization)
        if path.endswith(CHAT_PATH):
            return base
        return cls(base.is_tls, base.host, base.port, "", base.query, only=path or "/", authorization=authorization)

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    def target(self, path: str) -> str:
        """Path and query of the request line for a path below the base. Raises CallerError, NotConfigured."""
        bare, _, query = path.partition("?")
        if self.only is not None:
            if bare not in (CHAT_PATH, "/images/generations"):
                raise NotConfigured(f"this gateway's upstream is a single endpoint; there is no {bare} behind it")
            bare = self.only
        else:
            bare = self.prefix + bare
        queries = "&".join(part for part in (self.query, query) if part)
        target = f"{bare}?{queries}" if queries else bare
        if not _TARGET.match(target) or "/../" in f"{bare}/":
            raise CallerError("the path holds characters that a URL cannot", code="invalid_path")
        return target

    def url(self, path: str) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.netloc}{self.target(path)}"

    def headers(self, call: Call) -> list[tuple[bytes, bytes]]:
        """The call's headers, and those that this origin adds to each."""
        headers = [(b"Host", self.netloc.encode("idna" if not self.netloc.isascii() else "ascii"))]
        headers += call.headers
        headers.append((b"Accept-Encoding", b"identity"))
        if self.authorization is not None and not any(name.lower() == b"authorization" for name, _ in call.headers):
            headers.append((b"Authorization", self.authorization.encode("latin-1")))
        return headers

    def request_head(self, call: Call, content_length: int) -> bytes:
        """Request line and headers, with the empty line that ends them."""
        headers = self.headers(call)
        if content_length or call.method not in ("GET", "HEAD", "DELETE", "OPTIONS"):
            headers.append((b"Content-Length", b"%d" % content_length))
        lines = [b"%b: %b" % header for header in headers]
        return b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (
            call.method.encode("ascii"),
            self.target(call.path).encode("ascii"),
            b"\r\n".join(lines),
        )
