"""The page: files of `static/`, as they lie, under a policy that lets nothing in from outside."""

from __future__ import annotations

from aiohttp import web

from gateway.edge.keys import PAGE

# An answer may hold hostile Markdown: no script but ours, no image or request that leaves this host.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


async def index(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(request.app[PAGE] / "index.html", headers=HEADERS)


async def asset(request: web.Request) -> web.StreamResponse:
    """A file below `static/`; whatever is not one, or lies elsewhere, does not exist."""
    root = request.app[PAGE]
    try:
        path = (root / request.match_info["path"]).resolve()
        is_ours = path.is_relative_to(root) and path.is_file()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL in it
        raise web.HTTPNotFound from error
    if not is_ours:
        raise web.HTTPNotFound
    return web.FileResponse(path, headers=HEADERS)
