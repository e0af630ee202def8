"""Rewrites URLs in the headers of an answer to paths of this gateway, or removes them. Pure.

A caller that follows a URL of the upstream itself would bypass the gateway.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

from gateway.transport.origin import has_dot_dot

if TYPE_CHECKING:
    from gateway.transport.call import Head
    from gateway.transport.origin import Origin

PREFIX = "/v1"  # of the gateway's paths; the rest is the path below the upstream's base URL
# Headers whose value is a URL. Azure sends Operation-Location and Azure-AsyncOperation.
_URLS = frozenset((b"location", b"content-location", b"operation-location", b"azure-asyncoperation"))
_LINKS = b"link"  # RFC 8288: URLs in angle brackets
_WITH_URLS = _URLS | {_LINKS}
_BRACKETED = re.compile(r"<([^<>]*)>")
_USUAL_PORTS = (80, 443)
_IN_PATHS = "!$%&'()*+,-./:;=@_~"  # not escaped; a `%` begins an escape already


def is_redirect(head: Head) -> bool:
    """Whether an answer is a redirect with a location."""
    return 300 <= head.status < 400 and head.status != 304 and head.get(b"location") is not None


def relocated(head: Head, origin: Origin, path: str) -> Head:
    """The head of an answer to a call for `path`, with the gateway's paths in place of the upstream's URLs.

    It lacks the headers that point to other hosts, and any other header that has a URL of the upstream's host.
    """
    for name, value in head.headers:
        if name in _WITH_URLS or b"://" in value:
            break
    else:
        return head
    netloc = origin.netloc.lower().encode("ascii")
    kept: list[tuple[bytes, bytes]] = []
    for name, value in head.headers:
        if name in _WITH_URLS:
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
    replacements = iter(targets)
    ours = _BRACKETED.sub(lambda _: f"<{next(replacements)}>", value)
    return None if "://" in ours else ours  # an `anchor` is a URL too


def our_path(reference: str, origin: Origin, path: str) -> str | None:
    """The gateway's path for an absolute or relative URL in the answer to a call for `path`.

    None: the URL is not below the upstream's base URL.
    """
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
    if below is None or has_dot_dot(below):
        return None
    own = set(origin.query.split("&"))  # added to each call anyway
    query = "&".join(part for part in url.query.split("&") if part and part not in own)
    return quote(PREFIX + below + (f"?{query}" if query else ""), safe=_IN_PATHS + "?")


def _below(path: str, origin: Origin) -> str | None:
    if origin.exact is not None and path == origin.exact[1]:
        return origin.exact[0]
    if origin.prefix is None or not path.startswith(f"{origin.prefix}/"):
        return None
    return path.removeprefix(origin.prefix)
