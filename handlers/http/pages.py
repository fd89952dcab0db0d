"""The web page and its files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from handlers.http.edge import open_to_everyone

#: Beside the packages, in a checkout and where it is installed.
STATIC: Final = Path(__file__).resolve().parents[2] / "static"

#: Scripts and styles from here alone, none inside pages: what a person writes can never run (security.md 17).
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:;"
    " object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)


async def _from_here() -> str | None:
    return None


def add_pages(app: web.Application, *, media_origin: Callable[[], Awaitable[str | None]] = _from_here) -> None:
    """Serve `/` and `/static/…` to everyone: the files that are there now, so that no path leads elsewhere.

    `media_origin` says where film and sound may come from beside here: a player follows a link on into the bucket.
    """
    files = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if _is_plain_file(path)}

    async def file(request: web.Request) -> web.FileResponse:
        path = files.get(request.match_info["path"])
        if path is None:
            raise web.HTTPNotFound
        return web.FileResponse(path)

    for path, handler in (("/", index), ("/static/{path:.+}", file)):
        resource = app.router.add_resource(path)
        for method in (hdrs.METH_GET, hdrs.METH_HEAD):
            open_to_everyone(app, resource.add_route(method, handler))
    app.on_response_prepare.append(partial(_protect, media_origin))


def _is_plain_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


async def index(_request: web.Request) -> web.FileResponse:
    return web.FileResponse(STATIC / "index.html", headers={hdrs.CACHE_CONTROL: "no-cache"})


async def _protect(
    media_origin: Callable[[], Awaitable[str | None]], request: web.Request, response: web.StreamResponse
) -> None:
    response.headers.setdefault(hdrs.X_CONTENT_TYPE_OPTIONS, "nosniff")
    if request.path == "/" or request.path.startswith("/static/"):
        response.headers.setdefault(hdrs.CACHE_CONTROL, "no-cache")
        origin = await media_origin()
        media = "" if origin is None else f"; media-src 'self' {origin}"
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY + media
        response.headers["Referrer-Policy"] = "no-referrer"
