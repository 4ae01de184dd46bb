"""A service's SQL: the statements of a file beside a module, by name."""

import re
from collections.abc import Mapping
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def load(module_file: str, name: str = "queries.sql") -> Mapping[str, str]:
    """Each statement stands under its line `-- name: NAME`."""
    _, *parts = _NAME.split(Path(module_file).with_name(name).read_text())
    statements = (sql.strip().removesuffix(";") for sql in parts[1::2])
    return dict(zip(parts[::2], statements, strict=True))
