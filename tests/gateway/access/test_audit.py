"""Every route that changes something leaves a line of who did it; whoever adds such a route adds it here."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
import pytest

from schemas.providers import By, ProviderState
from services.at_ishare_contract import NAME
from services.gateway import keys
from services.gateway.access import Role
from services.gateway.dashboard.people import LOGOUT_PATH
from services.gateway.dashboard.rendering import LOGIN_PATH, PATH
from services.gateway.server import Gateway
from tests.gateway.access.conftest import PASSWORD, People, Session, login
from tests.gateway.conftest import Answer, Client, Stand, View
from tests.gateway.dead_letters.conftest import Desk, binary, order
from tests.gateway.providers.conftest import Fulfiller
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

ADMIN: Final = "/api/admin"
BULK: Final = f"{ADMIN}/fulfillment/retry"
WHY: Final = {"reason": "ticket 4711"}


@dataclass(frozen=True, slots=True)
class Person:
    """An admin with a session."""

    session: Session
    client: Client
    view: View
    people: People
    desk: Desk
    fulfiller: Fulfiller

    async def sends(self, path: str, said: object, method: str = "POST") -> Answer:
        headers = self.session.headers | {"Prefer": "wait=0"}
        return await self.client.request(method, path, json=said, headers=headers)

    async def submits(self, path: str, **fields: str) -> Answer:
        fields["csrf"] = self.session.csrf_token
        return await self.client.request(
            "POST", path, data=fields, headers=self.session.but(X_CSRF_Token=None), allow_redirects=False
        )

    async def order(self, state: str, status: str, attempts: int = 1) -> str:
        return await self.view.add(state=state, status=status, attempt_number=attempts)

    async def bulk(self, state: str) -> str:
        """A bulk retry of two orders, which waits for its canary."""
        ids = [await self.order("waiting", "failed") for _ in range(2)]
        started = await self.sends(BULK, {"orderIds": ids, "canary": 1, **WHY})
        assert started.status == 202, started.content
        job = str(started.json["job"]["id"])
        if state == "paused":
            assert (await self.sends(f"{BULK}/{job}/pause", WHY)).status == 200
        return job


Act = Callable[[Person], Awaitable[Answer]]


async def _trigger(person: Person) -> Answer:
    said = {"action": "trigger", "orderId": await person.order("held", "pending", 0)}
    return await person.sends("/api/orders/fulfillment", said)


async def _resolve(person: Person) -> Answer:
    review = await person.order("review", "processing")
    return await person.sends(f"{ADMIN}/fulfillment/{review}/resolve", {"delivered": True, **WHY})


async def _override(person: Person) -> Answer:
    return await person.sends(f"{ADMIN}/fulfillment/{await person.order('failed', 'failed', 3)}/override", WHY)


async def _cancel(person: Person) -> Answer:
    return await person.sends(f"{ADMIN}/fulfillment/{await person.order('created', 'pending', 0)}/cancel", WHY)


async def _suspend(person: Person) -> Answer:
    return await person.sends(f"{ADMIN}/providers/{NAME}/suspend", WHY)


async def _resume(person: Person) -> Answer:
    await person.fulfiller.says(state=ProviderState.SUSPENDED, by=By.OPERATOR, actor="user:kofi", why="ticket 4710")
    try:
        return await person.sends(f"{ADMIN}/providers/{NAME}/resume", WHY)
    finally:
        await person.fulfiller.says(1)


async def _started(person: Person) -> Answer:
    return await person.sends(BULK, {"orderIds": [await person.order("waiting", "failed")], **WHY})


def _of_bulk(act: str) -> Act:
    async def acted(person: Person) -> Answer:
        job = await person.bulk("paused" if act == "resume" else "running")
        return await person.sends(f"{BULK}/{job}/{act}", WHY)

    return acted


async def _replay(person: Person) -> Answer:
    made = order()
    value, headers = binary(made)
    letter = await person.desk.letter(value, key=made.order_id.encode(), headers=headers)
    return await person.sends(f"{ADMIN}/dead-letters/replay", {"ids": [letter], **WHY})


async def _revoked(person: Person) -> Answer:
    token = await keys.create(person.view.connection, Role.VIEWER, None)
    return await person.sends(f"{ADMIN}/keys/{token.split('.')[0]}", None, "DELETE")


async def _made_user(person: Person) -> Answer:
    name = f"u{uuid.uuid4().hex[:12]}"
    return await person.sends(f"{ADMIN}/users", {"name": name, "role": "viewer", "password": PASSWORD})


async def _changed_user(person: Person) -> Answer:
    return await person.sends(f"{ADMIN}/users/{await person.people.add(Role.VIEWER)}", {"disabled": True}, "PATCH")


async def _form(person: Person) -> Answer:
    return await person.submits(f"{PATH}/orders/{await person.order('waiting', 'failed')}", act="retry")


async def _login_form(person: Person) -> Answer:
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{person.client.port}", cookie_jar=aiohttp.DummyCookieJar()) as browser,
        browser.post(
            LOGIN_PATH, data={"username": person.session.name, "password": PASSWORD}, allow_redirects=False
        ) as response,
    ):
        return Answer(response.status, response.headers.copy(), await response.read())


ACTS: Final[dict[str, tuple[str, Act]]] = {
    "POST /api/orders/fulfillment": ("trigger", _trigger),
    "POST /api/admin/fulfillment/{id}/resolve": ("resolve", _resolve),
    "POST /api/admin/fulfillment/{id}/override": ("override", _override),
    "POST /api/admin/fulfillment/{id}/cancel": ("cancel", _cancel),
    "POST /api/admin/providers/{name}/suspend": ("suspend", _suspend),
    "POST /api/admin/providers/{name}/resume": ("resume", _resume),
    "POST /api/admin/fulfillment/retry": ("bulk_retry_started", _started),
    "POST /api/admin/fulfillment/retry/{job}/pause": ("bulk_retry_paused", _of_bulk("pause")),
    "POST /api/admin/fulfillment/retry/{job}/resume": ("bulk_retry_resumed", _of_bulk("resume")),
    "POST /api/admin/fulfillment/retry/{job}/cancel": ("bulk_retry_cancelled", _of_bulk("cancel")),
    "POST /api/admin/dead-letters/replay": ("replay", _replay),
    "POST /api/admin/keys": ("key_created", lambda person: person.sends(f"{ADMIN}/keys", {"role": "viewer"})),
    "DELETE /api/admin/keys/{id}": ("key_revoked", _revoked),
    "POST /api/admin/users": ("user_created", _made_user),
    "PATCH /api/admin/users/{name}": ("user_changed", _changed_user),
    "POST /api/account/password": (
        "password_changed",
        lambda person: person.sends("/api/account/password", {"current": PASSWORD, "new": PASSWORD + " anew"}),
    ),
    "POST /login": ("login", lambda person: login(person.client, person.session.name)),
    "POST /logout": ("logout", lambda person: person.sends("/logout", {})),
    "POST /dashboard/admin/fulfillment/orders/{id}": ("retry", _form),
    "POST /dashboard/login": ("login", _login_form),
    "POST /dashboard/logout": ("logout", lambda person: person.submits(LOGOUT_PATH)),
}
UNNOTED: Final = {"POST /api/orders/purchase", "POST /dashboard/admin/fulfillment/samples"}
"""A purchase is in the log itself, with its account."""


async def test_every_act_is_known(gateway: Gateway) -> None:
    acting = {f"{route.method} {route.path}" for route in gateway.routes if route.method != "GET"}
    assert acting == ACTS.keys() | UNNOTED


@pytest.mark.parametrize("route", ACTS)
async def test_whoever_acts_is_noted(stand: Stand, client: Client, view: View, people: People, route: str) -> None:
    action, act = ACTS[route]
    async with View.connected(stand.settings) as written:
        await written.connection.reset_type_codec("jsonb", schema="pg_catalog")
        desk, fulfiller = [made(written.connection, stand.settings) for made in (Desk, Fulfiller)]
        await desk.place()
        await fulfiller.place()
        person = Person(await people.logged_in(Role.ADMIN), client, view, people, desk, fulfiller)
        answer = await act(person)
        assert answer.status < 400, (answer.status, answer.content[:500])
        actor = f"user:{person.session.name}"
        lines = await until(lambda: people.audited(actor=actor, action=action), f"{action} to be noted")
        assert [line["address"] for line in lines] == ["127.0.0.1"]
        # And an admin finds it.
        token = await keys.create(view.connection, Role.ADMIN, None)
        listed = await client.request(
            "GET", f"{ADMIN}/audit", params={"actor": actor, "action": action}, headers={"X-API-Key": token}
        )
        assert [line["action"] for line in listed.json["audit"]] == [action]


async def test_what_is_refused_is_noted_where_somebody_guesses(client: Client, people: People) -> None:
    name = await people.add(Role.VIEWER)
    assert (await login(client, name, "a wrong password")).status == 401
    [line] = await people.audited(action="login_failed", target=name)
    assert (line["actor"], line["address"]) == ("anyone", "127.0.0.1")
