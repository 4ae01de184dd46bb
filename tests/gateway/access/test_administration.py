"""Keys and users over HTTP, and the audit log."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.gateway.access import Role
from services.gateway.server import Gateway
from tests.gateway.access.conftest import PASSWORD, People
from tests.gateway.conftest import Client, View
from tests.gateway.test_access import ELSEWHERE, bearer
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEYS = "/api/admin/keys"
USERS = "/api/admin/users"
AUDIT = "/api/admin/audit"


async def test_a_key_is_made_used_listed_and_revoked(client: Client, gateway: Gateway, people: People) -> None:
    admin = await people.logged_in(Role.ADMIN)
    ahead = datetime.now(UTC) + timedelta(days=1)
    said = {"role": "purchaser", "account": "acme", "name": "a shop", "expiresAt": ahead.isoformat()}
    made = await client.request("POST", KEYS, headers=admin.headers, json=said)
    assert made.status == 201
    assert made.headers["Cache-Control"] == "no-store"
    key, token = made.json["key"], made.json["token"]
    assert (key["role"], key["account"], key["name"], key["last_used_at"]) == ("purchaser", "acme", "a shop", None)
    assert (await client.purchase(None, None, **ELSEWHERE, **bearer(token))).status == 202

    async def used() -> bool:
        await gateway.keys.note_use()
        listed = await client.request("GET", KEYS, headers=admin.headers)
        assert token.split(".")[1].encode() not in listed.content
        [row] = [row for row in listed.json["keys"] if row["id"] == key["id"]]
        return row["last_used_at"] is not None

    await until(used, "the use to be noted", 5)
    path = f"{KEYS}/{key['id']}"
    assert (await client.request("DELETE", path, headers=admin.headers)).status == 200
    assert (await client.request("DELETE", path, headers=admin.headers)).is_problem(404)

    async def refused() -> bool:
        return (await client.purchase(None, None, **ELSEWHERE, **bearer(token))).status == 401

    await until(refused, "the key to be refused", 5)
    noted = await people.audited(target=key["id"])
    assert [(row["action"], row["actor"]) for row in noted] == [
        ("key_created", f"user:{admin.name}"),
        ("key_revoked", f"user:{admin.name}"),
    ]
    assert token.split(".")[1] not in str(noted)


async def test_a_key_expires_though_it_is_cached(client: Client, gateway: Gateway, people: People) -> None:
    admin = await people.logged_in(Role.ADMIN)
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    said = {"role": "purchaser", "expiresAt": soon.isoformat()}
    token = (await client.request("POST", KEYS, headers=admin.headers, json=said)).json["token"]

    async def refused() -> bool:
        return await gateway.keys.caller(token) is None

    assert not await refused()
    await until(refused, "the key to expire", 5)


@pytest.mark.parametrize(
    "said",
    [
        {}, {"role": "king"}, {"role": 1}, {"role": "viewer", "account": "local"}, {"role": "viewer", "account": "a:b"},
        {"role": "viewer", "name": "n" * 201}, {"role": "viewer", "name": "\u0000"},
        {"role": "viewer", "expiresAt": "2020-01-01T00:00:00Z"}, {"role": "viewer", "expiresAt": "tomorrow"},
    ],
)  # fmt: skip
async def test_what_is_no_key(client: Client, people: People, said: dict[str, Any]) -> None:
    admin = await people.logged_in(Role.ADMIN)
    assert (await client.request("POST", KEYS, headers=admin.headers, json=said)).is_problem(400)


async def test_users_are_made_and_listed(client: Client, people: People) -> None:
    admin = await people.logged_in(Role.ADMIN)
    name = f"ama.{admin.name}"
    said = {"name": name, "role": "operator", "password": PASSWORD}
    made = await client.request("POST", USERS, headers=admin.headers, json=said)
    assert (made.status, made.json["user"]["role"]) == (201, "operator")
    assert (await client.request("POST", USERS, headers=admin.headers, json=said)).is_problem(409)
    listed = await client.request("GET", USERS, headers=admin.headers)
    assert name in [row["name"] for row in listed.json["users"]]
    assert b"argon2" not in listed.content + made.content
    stored = await people.connection.fetchval("SELECT password_hash FROM access.users WHERE name = $1", name)
    assert stored.startswith("$argon2id$")
    missing = await client.request("PATCH", f"{USERS}/nobody", headers=admin.headers, json={"role": "viewer"})
    assert missing.is_problem(404)


@pytest.mark.parametrize(
    "said",
    [
        {}, {"name": "A"}, {"name": "a b"}, {"name": ""}, {"name": "a" * 65}, {"name": "kojo\n"}, {"name": None},
        {"role": "king"}, {"role": None}, {"password": "short"}, {"password": "aaaaaaaaaaaaaaa"}, {"password": None},
        {"password": "kojo kojo 12"}, {"password": "x" * 257},
    ],
)  # fmt: skip
async def test_what_is_no_user(client: Client, people: People, said: dict[str, Any]) -> None:
    admin = await people.logged_in(Role.ADMIN)
    said = {"name": "kojo", "role": "viewer", "password": PASSWORD, **said} if said else said
    answer = await client.request("POST", USERS, headers=admin.headers, json=said)
    assert answer.is_problem(400)
    assert PASSWORD.encode() not in answer.content


async def test_an_admin_stays_one(client: Client, people: People) -> None:
    admin = await people.logged_in(Role.ADMIN)
    path = f"{USERS}/{admin.name}"
    for said in ({"disabled": True}, {"role": "viewer"}):
        assert (await client.request("PATCH", path, headers=admin.headers, json=said)).is_problem(409)
    assert (await client.request("PATCH", path, headers=admin.headers, json={"role": "admin"})).status == 200


async def test_whoever_acts_on_an_order_is_noted(client: Client, people: People, view: View) -> None:
    operator = await people.logged_in(Role.OPERATOR)
    order_id = await view.add(status="failed", state="waiting", attempt_number=1)
    headers = operator.headers | {"Prefer": "wait=0"}
    assert (await client.act("retry", order_id, **headers)).status == 202
    [row] = await people.audited(target=order_id)
    assert (row["actor"], row["action"], row["address"]) == (f"user:{operator.name}", "retry", "127.0.0.1")


async def test_the_audit_log_is_listed_page_by_page(client: Client, people: People) -> None:
    admin = await people.logged_in(Role.ADMIN)
    for number in range(5):
        said = {"role": "viewer", "name": f"key {number}"}
        assert (await client.request("POST", KEYS, headers=admin.headers, json=said)).status == 201
    seen: list[str] = []
    query = {"actor": f"user:{admin.name}", "action": "key_created", "limit": "2"}
    cursor: dict[str, str] = {}
    while True:
        answer = await client.request("GET", AUDIT, headers=admin.headers, params=query | cursor)
        seen += [row["detail"]["name"] for row in answer.json["audit"]]
        if answer.json["next"] is None:
            break
        cursor = {"cursor": str(answer.json["next"])}
    assert seen == [f"key {number}" for number in (4, 3, 2, 1, 0)]
    later = {"from": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    assert (await client.request("GET", AUDIT, headers=admin.headers, params=query | later)).json["audit"] == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=201", "limit=x", "cursor=0", "cursor=x", "cursor=9223372036854775808", "from=x", "what=1",
        "actor=a&actor=b", "from=2026-02-01&to=2026-01-01", "actor=%00",
    ],
)  # fmt: skip
async def test_a_bad_question_is_refused(client: Client, people: People, query: str) -> None:
    admin = await people.logged_in(Role.ADMIN)
    assert (await client.request("GET", f"{AUDIT}?{query}", headers=admin.headers)).is_problem(400)


async def test_the_audit_log_is_only_added_to(people: People) -> None:
    for statement in ("UPDATE access.audit SET actor = 'nobody'", "DELETE FROM access.audit"):
        with pytest.raises(Exception, match="only added to"):
            await people.connection.execute(statement)
