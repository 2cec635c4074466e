"""GET /openapi.json and GET /docs."""

from typing import Final

import msgspec
from aiohttp import web

from gateway.http.docs_page import render
from gateway.http.openapi import JSON, document
from gateway.http.operations import OPERATIONS

# The page has no scripts; its style is its own.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


class DescriptionRoutes:
    def __init__(self) -> None:
        described = document(OPERATIONS)
        self._json = msgspec.json.encode(described)
        self._page = render(described)

    def add_to(self, app: web.Application) -> None:
        app.add_routes([web.get("/openapi.json", self.openapi), web.get("/docs", self.docs)])

    async def openapi(self, request: web.Request) -> web.Response:
        return web.Response(body=self._json, content_type=JSON)

    async def docs(self, request: web.Request) -> web.Response:
        return web.Response(text=self._page, content_type="text/html", headers={"Content-Security-Policy": _POLICY})
