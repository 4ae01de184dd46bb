"""Every route, by every role, with every kind of credential; the table below and the routes are the same."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from services.gateway import keys
from services.gateway.access import Role
from services.gateway.routes import Route
from services.gateway.server import Gateway
from tests.gateway.access.conftest import People
from tests.gateway.conftest import Client, View
from tests.gateway.test_access import ELSEWHERE, bearer

pytestmark = pytest.mark.asyncio(loop_scope="session")

ALL: Final = frozenset(Role)
STAFF: Final = frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN})
ACTORS: Final = frozenset({Role.OPERATOR, Role.ADMIN})
BUYERS: Final = frozenset({Role.PURCHASER, Role.ADMIN})
ADMIN: Final = frozenset({Role.ADMIN})
ANYONE: Final = None

MAY: Final[dict[str, frozenset[Role] | None]] = {
    "POST /api/orders/purchase": BUYERS,
    "POST /api/orders/fulfillment": ACTORS,
    "GET /api/orders/fulfillment": ALL,
    "GET /api/orders/{id}/events": ALL,
    "GET /api/admin/fulfillment/logs": STAFF,
    "GET /api/admin/fulfillment/export.csv": STAFF,
    "GET /api/admin/fulfillment/stats": STAFF,
    "GET /api/admin/fulfillment/stream": STAFF,
    "GET /api/admin/fulfillment/vitals": STAFF,
    "POST /api/admin/fulfillment/{id}/resolve": ACTORS,
    "POST /api/admin/fulfillment/{id}/override": ACTORS,
    "POST /api/admin/fulfillment/{id}/cancel": ACTORS,
    "GET /api/admin/providers": STAFF,
    "GET /api/admin/providers/{name}/balance": STAFF,
    "POST /api/admin/providers/{name}/suspend": ACTORS,
    "POST /api/admin/providers/{name}/resume": ACTORS,
    "POST /api/admin/fulfillment/retry": ACTORS,
    "GET /api/admin/fulfillment/retry": STAFF,
    "GET /api/admin/fulfillment/retry/{job}": STAFF,
    "GET /api/admin/fulfillment/retry/{job}/rows": STAFF,
    "POST /api/admin/fulfillment/retry/{job}/pause": ACTORS,
    "POST /api/admin/fulfillment/retry/{job}/resume": ACTORS,
    "POST /api/admin/fulfillment/retry/{job}/cancel": ACTORS,
    "GET /api/admin/dead-letters": STAFF,
    "GET /api/admin/dead-letters/{partition}-{offset}": STAFF,
    "POST /api/admin/dead-letters/replay": ACTORS,
    "GET /api/admin/alerts": STAFF,
    "GET /api/admin/audit": ADMIN,
    "GET /api/admin/keys": ADMIN,
    "POST /api/admin/keys": ADMIN,
    "DELETE /api/admin/keys/{id}": ADMIN,
    "GET /api/admin/users": ADMIN,
    "POST /api/admin/users": ADMIN,
    "PATCH /api/admin/users/{name}": ADMIN,
    "GET /api/session": ALL,
    "POST /api/account/password": ALL,
    "POST /logout": ALL,
    "POST /login": ANYONE,
    "GET /livez": ANYONE,
    "GET /readyz": ANYONE,
    "GET /metrics": ANYONE,
    "GET /openapi.json": ANYONE,
    "GET /docs": ANYONE,
    "GET /docs/rapidoc-min.js": ANYONE,
    "GET /dashboard/admin/fulfillment": STAFF,
    "GET /dashboard/admin/fulfillment/orders/{id}": STAFF,
    "POST /dashboard/admin/fulfillment/orders/{id}": ACTORS,
    "POST /dashboard/admin/fulfillment/samples": ACTORS,
    "GET /dashboard/admin/fulfillment/review": STAFF,
    "GET /dashboard/admin/fulfillment/health": STAFF,
    "GET /dashboard/admin/fulfillment/dead-letters": STAFF,
    "GET /dashboard/admin/fulfillment/dead-letters/{partition}-{offset}": STAFF,
    "GET /dashboard/admin/fulfillment/alerts": STAFF,
    "GET /dashboard/admin/fulfillment/account": STAFF,
    "GET /dashboard/admin/fulfillment/providers": STAFF,
    "GET /dashboard/admin/fulfillment/retries": STAFF,
    "GET /dashboard/admin/fulfillment/retries/{job}": STAFF,
    "GET /dashboard/admin/fulfillment/audit": ADMIN,
    "GET /dashboard/admin/fulfillment/access": ADMIN,
    "GET /dashboard/login": ANYONE,
    "POST /dashboard/login": ANYONE,
    "POST /dashboard/logout": ALL,
    "GET /dashboard/static/{name}": ANYONE,
}
ENDLESS: Final = "GET /api/admin/fulfillment/stream"
REFUSED: Final = {401, 403}


def name(route: Route) -> str:
    return f"{route.method} {route.path}"


async def status(client: Client, route: Route, headers: dict[str, str]) -> int:
    """Of a request that is bad in itself: whoever may make it hears so, or that there is nothing of that name."""
    path = re.sub(r"{\w+}", "no-such-thing", route.path)
    body: dict[str, Any] = {} if route.method == "GET" else {"json": {"role": 1}}
    said = {**ELSEWHERE, "Accept": "application/json", **headers}
    async with client.session.request(route.method, path, headers=said, allow_redirects=False, **body) as response:
        return response.status


async def test_every_route_is_known_and_every_known_one_is_there(gateway: Gateway) -> None:
    assert sorted(map(name, gateway.routes)) == sorted(MAY)


async def test_every_role_gets_what_is_its_own_and_nothing_else(
    client: Client, gateway: Gateway, view: View, people: People
) -> None:
    for role in Role:
        token = await keys.create(view.connection, role, None)
        for route in gateway.routes:
            # Each with a session of its own: one of the calls is the logout.
            session = await people.logged_in(role)
            for headers in (bearer(token), session.headers):
                may = MAY[name(route)]
                answered = await status(client, route, headers)
                refused = answered in REFUSED if may is not ANYONE else False
                assert refused == (may is not ANYONE and role not in may), (name(route), role, answered)
                assert answered < 500, name(route)


async def test_no_wrong_expired_and_revoked_credentials_get_nothing(
    client: Client, gateway: Gateway, view: View, people: People
) -> None:
    bad: dict[str, dict[str, str]] = {
        "none": {},
        "unknown key": bearer("0123456789abcdef." + "A" * 43),
        "wrong session": {"Cookie": "fulfillment-session=" + "A" * 43},
        "nonsense session": {"Cookie": "fulfillment-session=x"},
    }
    for role in Role:
        was_good = await ended(client, gateway, view, people, role)
        bad |= {f"{kind} of {role}": headers for kind, headers in was_good.items()}
    for kind, headers in bad.items():
        for route in gateway.routes:
            if MAY[name(route)] is ANYONE:
                continue
            answered = await status(client, route, headers)
            # A page leads to the login instead.
            assert answered == 401 or (answered in {302, 303} and "/dashboard/" in route.path), (kind, name(route))


async def ended(client: Client, gateway: Gateway, view: View, people: People, role: Role) -> dict[str, dict[str, str]]:
    """The headers of keys and sessions that were good a moment ago, by how they ended."""
    expired, revoked, other = [await keys.create(view.connection, role, None) for _ in range(3)]
    over, idle, left, disabled = [await people.logged_in(role) for _ in range(4)]
    good = {
        "expired key": bearer(expired),
        "revoked key": bearer(revoked),
        "session past its life": over.headers,
        "idle session": idle.headers,
        "session that was left": left.headers,
        "disabled user's session": disabled.headers,
    }
    session = next(route for route in gateway.routes if route.path == "/api/session")
    assert {await status(client, session, headers) for headers in good.values()} == {200}
    await view.connection.execute(
        "UPDATE access.api_keys SET expires_at = $2 WHERE id = $1",
        expired.split(".")[0],
        datetime.now(UTC) - timedelta(seconds=1),
    )
    gateway.keys.forget(expired.split(".")[0])
    assert await keys.revoke(view.connection, revoked.split(".")[0])
    gateway.keys.forget(revoked.split(".")[0])  # as it is told; that it is told at once is another test's business
    await people.age(over, created_s=13 * 3600, seen_s=0)
    await people.age(idle, created_s=1900, seen_s=1900)
    assert (await client.request("POST", "/logout", headers=left.headers)).status == 200
    await people.disable(disabled)
    return good | {"key with another's secret": bearer(f"{expired.split('.')[0]}.{other.split('.')[1]}")}
