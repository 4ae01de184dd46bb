"""README and docs show every call with curl."""

import re
from collections.abc import Iterator

import orjson
import pytest

from tests.processes import ROOT

_FUNCTION = re.compile(r"^(\w+)\(\) \{ (curl [^\n]*)\$@\"; \}$", re.MULTILINE)
_LEFT_TO_BROWSERS = ("/dashboard", "/docs")


def _calls() -> Iterator[tuple[str, str]]:
    """Method and address, without its question, of every curl; a page's own shell functions are followed."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text().replace("\\\n", " ")
        functions = dict(_FUNCTION.findall(text))
        for line in text.splitlines():
            name, _, rest = line.removeprefix("$ ").partition(" ")
            # The function's last word goes on with what it is given.
            said = functions[name] + rest.lstrip().removeprefix('"') if name in functions else line
            for one in re.findall(r"curl .*", said):
                address = re.search(r"https?://[^/\s]+(/[^\s\"'?)]*)", one)
                method = re.search(r"-X ([A-Z]+)", one)
                if address:
                    usual = "POST" if re.search(r" -d ", one) and not re.search(r" -G ", one) else "GET"
                    yield method[1] if method else usual, address[1]


_CALLS = set(_calls())
_PATHS = orjson.loads((ROOT / "schemas" / "openapi" / "openapi.json").read_bytes())["paths"]
_ROUTES = [
    (method.upper(), path)
    for path, methods in _PATHS.items()
    for method in methods
    if not path.startswith(_LEFT_TO_BROWSERS) and method in {"get", "post", "patch", "delete"}
]


@pytest.mark.parametrize(("method", "path"), _ROUTES)
def test_every_call_is_shown_with_curl(method: str, path: str) -> None:
    shape = re.compile(re.sub(r"\\\{\w+\\\}", r"[^/]+", re.escape(path)))
    assert any(said == method and shape.fullmatch(address) for said, address in _CALLS)
