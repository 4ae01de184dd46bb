from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.backend import Backend
from tests.stand import Stand, stand

Stands = Callable[..., AbstractAsyncContextManager[Stand]]


@pytest.fixture(scope="session")
def stands(backend: Backend, migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Stands:
    """Makes stands; each keeps its services' logs in a directory of the name that it is given."""

    def make(name: str, **changes: Any) -> AbstractAsyncContextManager[Stand]:
        return stand(backend, migrated, tmp_path_factory.mktemp(name), **changes)

    return make
