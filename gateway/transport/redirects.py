"""Where the headers of an answer point: to a path of this gateway, or nowhere. Pure.

A caller that follows a URL of the upstream's own gets past the gateway, if it gets anywhere.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

from gateway.transport.origin import climbs

if TYPE_CHECKING:
    from gateway.transport.call import Head
    from gateway.transport.origin import Origin

PREFIX = "/v1"  # under which callers reach the paths below an upstream's base URL
# Headers that are a URL. Of Azure: Operation-Location, Azure-AsyncOperation.
_URLS = frozenset((b"location", b"content-location", b"operation-location", b"azure-asyncoperation"))
_LINKS = b"link"  # RFC 8288: URLs in angle brackets
_POINTING = _URLS | {_LINKS}
_BRACKETED = re.compile(r"<([^<>]*)>")
_USUAL_PORTS = (80, 443)
_IN_PATHS = "!$%&'()*+,-./:;=@_~"  # as they are: a `%` stands for an escape already


def is_redirect(head: Head) -> bool:
    """Whether an answer sends its caller elsewhere, and is no more than that."""
    return 300 <= head.status < 400 and head.status != 304 and head.get(b"location") is not None


def relocated(head: Head, origin: Origin, path: str) -> Head:
    """The head of an answer to a call for `path`, with paths of ours for the upstream's URLs. A header that points
    elsewhere is left out, and so is one of any name that holds a URL of the upstream's host."""
    for name, value in head.headers:
        if name in _POINTING or b"://" in value:
            break
    else:
        return head
    netloc = origin.netloc.lower().encode("ascii")
    kept: list[tuple[bytes, bytes]] = []
    for name, value in head.headers:
        if name in _POINTING:
            ours = _ours(name, value.decode("latin-1"), origin, path)
            if ours is not None:
                kept.append((name, ours.encode("latin-1")))
        elif b"://" not in value or netloc not in value.lower():
            kept.append((name, value))
    return replace(head, headers=tuple(kept))


def _ours(name: bytes, value: str, origin: Origin, path: str) -> str | None:
    if name != _LINKS:
        return our_path(value, origin, path)
    targets = [our_path(found, origin, path) for found in _BRACKETED.findall(value)]
    if not targets or None in targets:
        return None
    places = iter(targets)
    ours = _BRACKETED.sub(lambda _: f"<{next(places)}>", value)
    return None if "://" in ours else ours  # an `anchor` is a URL, too


def our_path(reference: str, origin: Origin, path: str) -> str | None:
    """The path of this gateway for a URL, absolute or not, in the answer to a call for `path`; None if elsewhere."""
    try:
        url = urlsplit(urljoin(origin.url(path), reference.strip()))
        port = url.port
    except ValueError:
        return None
    if url.scheme not in ("http", "https") or (url.hostname or "").rstrip(".") != origin.host.lower():
        return None
    port = port or (443 if url.scheme == "https" else 80)
    if port != origin.port and not (port in _USUAL_PORTS and origin.port in _USUAL_PORTS):
        return None
    below = _below(url.path, origin)
    if below is None or climbs(below):
        return None
    own = set(origin.query.split("&"))  # which each call gets anyway
    query = "&".join(part for part in url.query.split("&") if part and part not in own)
    return quote(PREFIX + below + (f"?{query}" if query else ""), safe=_IN_PATHS + "?")


def _below(path: str, origin: Origin) -> str | None:
    if origin.exact is not None and path == origin.exact[1]:
        return origin.exact[0]
    if origin.prefix is None or not path.startswith(f"{origin.prefix}/"):
        return None
    return path.removeprefix(origin.prefix)
