"""Templates and the files that pages need."""

import hashlib
from pathlib import Path
from typing import Any, Final

import jinja2
from aiohttp import web

from services.gateway.problem import NOT_FOUND, Problem

PATH: Final = "/dashboard/admin/fulfillment"
STATIC_PATH: Final = "/dashboard/static"
LOGIN_PATH: Final = "/dashboard/login"
_HERE: Final = Path(__file__).parent
_TYPES: Final = {".js": "text/javascript", ".css": "text/css"}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""No script but ours. uPlot places its canvases by style attributes."""
_HEADERS: Final = {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin", "Cache-Control": "no-store"}
_A_YEAR: Final = "public, max-age=31536000, immutable"


class Assets:
    """Read once; each address names its content, so that browsers keep it for good."""

    def __init__(self) -> None:
        files = [path for path in (_HERE / "static").iterdir() if path.suffix in _TYPES]
        self._files = {path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in files}
        self._versions = {name: hashlib.sha256(said).hexdigest()[:12] for name, (said, _) in self._files.items()}

    def address(self, name: str) -> str:
        return f"{STATIC_PATH}/{name}?v={self._versions[name]}"

    def response(self, name: str, version: str | None) -> web.Response:
        """Problem 404 for any other name."""
        if name not in self._files:
            raise Problem(NOT_FOUND, "no such path")
        content, kind = self._files[name]
        response = web.Response(body=content, content_type=kind, charset="utf-8")
        response.enable_compression()
        response.headers["Cache-Control"] = _A_YEAR if version == self._versions[name] else "no-cache"
        return response


class Templates:
    def __init__(self, **always: Any) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(always)

    def page(self, name: str, *, status: int = 200, headers: dict[str, str] | None = None, **said: Any) -> web.Response:
        text = self._environment.get_template(name).render(said)
        response = web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS | (headers or {}))
        response.enable_compression()
        return response
