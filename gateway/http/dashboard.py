"""GET /: the page that shows what the fleet does, and the files below /dashboard/ that it loads.

The page is open; what it shows it asks for with the key of whoever looks at it.
"""

import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import PurePath
from typing import Final, NamedTuple

from aiohttp import web

_PAGE: Final = "index.html"
ASSET_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Scripts and styles are the gateway's own files, and it is the only place that they talk to.
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Final = {
    "Cache-Control": "no-cache",  # asked for each time, and sent only when it changed
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Asset(NamedTuple):
    body: bytes
    content_type: str
    etag: str


def load_assets() -> Mapping[str, Asset]:
    """By file name."""
    folder = resources.files("gateway") / "dashboard"
    return {path.name: _asset(path.name, path.read_bytes()) for path in folder.iterdir() if path.is_file()}


class DashboardRoutes:
    def __init__(self, assets: Mapping[str, Asset]) -> None:
        self._assets = assets

    def add_to(self, app: web.Application) -> None:
        app.add_routes([web.get("/", self.page), web.get("/dashboard/{file}", self.file)])

    async def page(self, request: web.Request) -> web.Response:
        return _answer(request, self._assets[_PAGE])

    async def file(self, request: web.Request) -> web.Response:
        asset = self._assets.get(request.match_info["file"])
        if asset is None:
            raise web.HTTPNotFound(reason="The page has no such file.")
        return _answer(request, asset)


def _answer(request: web.Request, asset: Asset) -> web.Response:
    is_known = any(etag.value in (asset.etag, "*") for etag in request.if_none_match or ())
    if is_known:
        response = web.Response(status=304)
    else:
        response = web.Response(body=asset.body, content_type=asset.content_type, charset="utf-8")
    response.etag = asset.etag
    response.headers.update(_HEADERS)
    return response


def _asset(name: str, body: bytes) -> Asset:
    return Asset(body, ASSET_TYPES[PurePath(name).suffix], hashlib.sha256(body).hexdigest()[:16])
