"""The pages: files of `static/` under a policy that forbids other origins, and the chat page's settings."""

from __future__ import annotations

import orjson
from aiohttp import web

from gateway.edge.http.app_keys import PAGE, SETTINGS

# An answer may contain hostile Markdown: only our scripts run, and no image or request goes to another host.
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
# The chat page creates nodes and never parses HTML, so that no text of a model can become markup.
CHAT_HEADERS = {
    **HEADERS,
    "Content-Security-Policy": f"{CONTENT_SECURITY_POLICY}; require-trusted-types-for 'script'; trusted-types 'none'",
}


async def index(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(request.app[PAGE] / "index.html", headers=CHAT_HEADERS)


async def config(request: web.Request) -> web.Response:
    """GET /page.json: the chat page's settings. They are public like the page and contain no secret."""
    settings = request.app[SETTINGS]
    page = settings.page
    known = {route.resource.canonical for route in request.app.router.routes() if route.resource is not None}
    shown = {
        "gateway": ".",
        "api": "gateway",
        "name": page.name,
        "auth": settings.auth.modes,
        "policy_url": page.policy_url,
        "token_url": page.token_url,
        "own_keys_s": settings.auth.own_keys_s or None,
        "report_url": "report" if "/report" in known else None,
        "docs_url": "docs",
        "default_model": page.default_model,
        "use_cases": [dict(each) for each in page.use_cases],
    }
    return web.Response(body=orjson.dumps(shown), content_type="application/json", headers=HEADERS)


async def asset(request: web.Request) -> web.StreamResponse:
    """GET /static/{path}: a file below `static/`; 404 for any other path."""
    root = request.app[PAGE]
    try:
        path = (root / request.match_info["path"]).resolve()
        is_ours = path.is_relative_to(root) and path.is_file()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL in it
        raise web.HTTPNotFound from error
    if not is_ours:
        raise web.HTTPNotFound
    return web.FileResponse(path, headers=HEADERS)
