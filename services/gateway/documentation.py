"""`/openapi.json`, and `/docs`, a page that shows it: RapiDoc, vendored (docs_page/vendored.json says from where)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson
from aiohttp import web

from services.gateway.access import Caller, Permission
from services.gateway.description import Description, Reply
from services.gateway.openapi import openapi
from services.gateway.routes import Handler, Route

PAGE: Final = Path(__file__).with_name("docs_page")
SCRIPT: Final = "rapidoc-min.js"
_TAG: Final = "Documents"
_ANYONE: Final = Permission(anyone=True)
# RapiDoc styles its shadow trees inline; no script is.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def documented(routes: Sequence[Route]) -> tuple[Route, ...]:
    """The routes, and those that document them all."""
    document = b""

    async def openapi_json(_request: web.Request, _caller: Caller) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    described = (
        *routes,
        Route(
            "GET",
            "/openapi.json",
            openapi_json,
            _ANYONE,
            Description("This document", {200: Reply("OpenAPI 3.1.", "application/json")}, _TAG),
        ),
        Route(
            "GET",
            "/docs",
            _file("index.html", "text/html", {"Content-Security-Policy": _POLICY}),
            _ANYONE,
            Description("A page that shows this document", {200: Reply("The page.", "text/html")}, _TAG),
        ),
        Route(
            "GET",
            f"/docs/{SCRIPT}",
            _file(SCRIPT, "text/javascript"),
            _ANYONE,
            Description("The page's script", {200: Reply("RapiDoc.", "text/javascript")}, _TAG),
        ),
    )
    document = orjson.dumps(openapi(described))
    return described


def _file(name: str, content_type: str, headers: dict[str, str] | None = None) -> Handler:
    content = (PAGE / name).read_bytes()

    async def file(_request: web.Request, _caller: Caller) -> web.Response:
        return web.Response(body=content, content_type=content_type, charset="utf-8", headers=headers)

    return file
