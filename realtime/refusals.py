"""How the transport itself refuses a request: the error object that REST answers with, too."""

from __future__ import annotations

from aiohttp import web

from realtime.frames import JSON


def refused(status: int, code: str, message: str, *, retry_after: int | None = None) -> web.Response:
    document = {"error": code, "message": message, "status_code": status}
    return web.Response(
        status=status,
        text=JSON.dumps(document),
        content_type="application/json",
        headers={} if retry_after is None else {"Retry-After": str(retry_after)},
    )


def no_websocket(error: Exception) -> web.Response:
    """The refusal of an opening handshake: it names the version that is spoken here (RFC 6455, 4.4)."""
    response = refused(400, "no_websocket", f"This cannot be made a WebSocket: {error}.")
    response.headers["Sec-WebSocket-Version"] = "13"
    return response
