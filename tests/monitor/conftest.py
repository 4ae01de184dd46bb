from pathlib import Path
from typing import Any

import pytest

from services.settings import Settings
from tests.monitor.watched import Watched
from tests.processes import Processes


@pytest.fixture
def processes(tmp_path: Path) -> Any:
    with Processes(tmp_path) as processes:
        yield processes


@pytest.fixture
async def watched(topics: Settings, processes: Processes) -> Watched:
    return Watched(topics, processes)
