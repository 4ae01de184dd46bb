"""The OpenAPI document as committed, and as released: `python -m services.gateway.published [release]` writes it."""

import json
import sys
from pathlib import Path
from typing import Any, Final

from schemas.contract import FOLDER, text
from services.gateway.openapi import openapi
from services.gateway.routes import Route
from services.gateway.server import Gateway
from services.settings import Settings

OPENAPI: Final = FOLDER / "openapi" / "openapi.json"
RELEASED: Final = FOLDER / "openapi" / "released"


def routes() -> tuple[Route, ...]:
    """Those of a gateway with the default settings, which is never started."""
    return Gateway(Settings()).routes


def released() -> dict[int, dict[str, Any]]:
    """The document of every release, by its number."""
    return {int(path.stem): json.loads(path.read_text(encoding="utf-8")) for path in sorted(RELEASED.glob("*.json"))}


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    print(path)  # noqa: T201 - a command's answer


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["release"]):
        raise SystemExit(__doc__)
    document = text(openapi(routes()))
    _write(OPENAPI, document)
    if sys.argv[1:]:
        _write(RELEASED / f"{max(released(), default=0) + 1}.json", document)
