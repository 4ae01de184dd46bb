"""What stands, and what is over: a fold of the changes that fulfillment.alerts has. Pure."""

from collections import deque
from typing import Final, NamedTuple

from schemas.alerts import Alert

_CLEARED: Final = 200


class Shown(NamedTuple):
    raised: Alert
    cleared: Alert | None = None


class Board:
    def __init__(self) -> None:
        self._firing: dict[tuple[str, str], Alert] = {}
        self._cleared: deque[Shown] = deque(maxlen=_CLEARED)
        self._seen: set[str] = set()

    def take(self, alert: Alert) -> None:
        """The next change; one that is said again is passed over, and so is the end of what nobody heard of."""
        if alert.id in self._seen:
            return
        self._seen.add(alert.id)
        about = (alert.name, alert.subject)
        if alert.type == "AlertRaised":
            self._firing[about] = alert
        elif about in self._firing:
            self._cleared.appendleft(Shown(self._firing.pop(about), alert))

    def firing(self) -> list[Alert]:
        return list(self._firing.values())

    def cleared(self) -> list[Shown]:
        """The last ones, the newest first."""
        return list(self._cleared)
