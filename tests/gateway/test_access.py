import time

import pytest

from services.gateway import keys
from services.gateway.access import Role
from services.gateway.fulfillment import APPEAR_WAIT_S
from services.gateway.keys import FRESH_S, KeyCache
from services.gateway.server import Gateway
from services.run import Refusal
from services.settings import Environment
from tests.gateway.conftest import BUNDLE, Client, Stand, View, new_key, standing
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

ELSEWHERE = {"Host": "fulfillment.example.com"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_key_may_come_in_either_header(client: Client, view: View) -> None:
    token = await keys.create(view.connection, Role.PURCHASER, "acme")
    for headers in (bearer(token), {"X-API-Key": token}, {"authorization": f"bearer  {token}"}):
        answer = await client.purchase(None, None, **ELSEWHERE, **headers)
        assert answer.status == 202
        assert token.split(".")[1].encode() not in answer.content


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"Authorization": ""}, id="empty"),
        pytest.param({"Authorization": "Bearer"}, id="no token"),
        pytest.param({"Authorization": "Basic YTpi"}, id="basic"),
        pytest.param({"Authorization": "Bearer a b"}, id="two words"),
        pytest.param({"X-API-Key": ""}, id="empty key"),
        pytest.param({"X-API-Key": "nonsense"}, id="nonsense"),
        pytest.param({"X-API-Key": "0123456789abcdef." + "A" * 43}, id="unknown"),
        pytest.param({"X-API-Key": "0123456789abcdef." + "A" * 5000}, id="5 KB"),
        pytest.param({"X-API-Key": "' OR 1=1 --.xxxxxxxxxxxxxxxxxxxxxxxxxx"}, id="SQL"),
        pytest.param({"X-API-Key": "é.é"}, id="not ASCII"),
    ],
)
async def test_without_a_good_key_nothing_is_done(client: Client, headers: dict[str, str]) -> None:
    answer = await client.purchase(None, None, **ELSEWHERE, **headers)
    assert answer.is_problem(401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_wrong_secret_a_revoked_key_and_two_keys_are_refused(client: Client, view: View) -> None:
    token = await keys.create(view.connection, Role.PURCHASER, None)
    other = await keys.create(view.connection, Role.PURCHASER, None)
    key_id, secret = token.split(".")
    wrong = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    assert (await client.purchase(None, None, **ELSEWHERE, **bearer(f"{key_id}.{wrong}"))).is_problem(401)
    assert (await client.purchase(None, None, **bearer(token), **{"X-API-Key": other})).is_problem(401)
    assert (await client.purchase(None, None, **ELSEWHERE, **bearer(token))).status == 202
    assert await keys.revoke(view.connection, key_id)
    assert not await keys.revoke(view.connection, key_id)

    async def refused() -> bool:
        return (await client.purchase(None, None, **ELSEWHERE, **bearer(token))).status == 401

    # Well before the cache would have noticed by itself.
    await until(refused, "the key to be refused", FRESH_S / 2)


async def test_a_wrong_key_is_no_better_on_this_machine(client: Client) -> None:
    assert (await client.purchase(None, None, **{"X-API-Key": "0123456789abcdef." + "A" * 43})).is_problem(401)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 202, id="as it is"),
        pytest.param({"Host": "localhost"}, 202, id="localhost"),
        pytest.param({"Host": "LOCALHOST:3000"}, 202, id="with a port"),
        pytest.param({"Host": "[::1]:3000"}, 202, id="IPv6"),
        pytest.param({"Host": "localhost:1", "Origin": "http://localhost:1"}, 202, id="own origin"),
        pytest.param({"Host": "evil.example.com"}, 401, id="rebound name"),
        pytest.param({"Host": "localhost.evil.example.com"}, 401, id="longer name"),
        pytest.param({"Host": "127.0.0.1.evil.example.com"}, 401, id="longer address"),
        pytest.param({"Host": ""}, 401, id="no host"),
        pytest.param({"Origin": "https://evil.example.com"}, 401, id="foreign origin"),
        pytest.param({"Origin": "http://localhost:1"}, 401, id="another local page"),
        pytest.param({"Origin": "null"}, 401, id="null origin"),
        pytest.param({"X-Forwarded-For": "203.0.113.9"}, 401, id="through a proxy"),
        pytest.param({"Forwarded": "for=203.0.113.9"}, 401, id="through a modern proxy"),
    ],
)
async def test_in_development_this_machine_needs_no_key(client: Client, headers: dict[str, str], status: int) -> None:
    assert (await client.purchase(None, None, **headers)).status == status


async def test_in_production_this_machine_needs_a_key_too(stand: Stand) -> None:
    # Not made from the environment: production refuses the secrets of a sandbox.
    settings = stand.settings.model_copy(update={"environment": Environment.PRODUCTION})
    with pytest.raises(Refusal, match="ALLOWED_HOSTS"):
        async with standing(settings):
            pass
    settings = settings.model_copy(update={"allowed_hosts": ("shop.example.com",)})
    async with standing(settings) as production:
        assert (await production.client.purchase(None, None, Host="shop.example.com")).is_problem(401)
        assert (await production.client.purchase()).is_problem(421)


async def test_a_purchaser_sees_the_orders_of_its_account_alone(client: Client, view: View) -> None:
    token = await keys.create(view.connection, Role.PURCHASER, "acme")
    viewer = await keys.create(view.connection, Role.VIEWER, None)
    own, others = await view.add(account="acme"), await view.add(account="other")
    assert (await client.status(own, **bearer(token))).status == 200
    began_s = time.monotonic()
    assert (await client.status(others, **bearer(token))).is_problem(404)
    assert time.monotonic() - began_s >= APPEAR_WAIT_S, "as late as about an order that nobody made"
    assert (await client.status(others, **bearer(viewer))).status == 200


async def test_an_idempotency_key_belongs_to_the_account(client: Client, view: View) -> None:
    first, second, other = [
        await keys.create(view.connection, Role.PURCHASER, account) for account in ("acme", "acme", "other")
    ]
    key = new_key()
    orders = [
        (await client.purchase(BUNDLE, key, **bearer(token))).json["order"]["id"] for token in (first, second, other)
    ]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("account", ["local", "", "a:b", "a b", "a" * 101, "é"])
async def test_what_cannot_be_an_account(view: View, account: str) -> None:
    with pytest.raises(ValueError, match="account"):
        await keys.create(view.connection, Role.PURCHASER, account)


async def test_the_secret_is_nowhere_in_the_database(view: View) -> None:
    token = await keys.create(view.connection, Role.ADMIN, "acme", "a note")
    key_id, secret = token.split(".")
    row = await view.connection.fetchval("SELECT k::text FROM access.api_keys k WHERE id = $1", key_id)
    assert secret not in row
    [listed] = [row for row in await keys.list_all(view.connection) if row["id"] == key_id]
    assert (listed["role"], listed["account"], listed["name"]) == ("admin", "acme", "a note")
    assert "secret_hash" not in listed


async def test_a_key_is_looked_up_again_when_it_is_no_longer_fresh(gateway: Gateway, view: View) -> None:
    now_s = 1000.0
    cache = KeyCache(gateway.database, clock_s=lambda: now_s)
    token = await keys.create(view.connection, Role.VIEWER, None)
    assert await cache.caller(token) is not None
    await view.connection.execute("UPDATE access.api_keys SET revoked_at = now() WHERE id = $1", token.split(".")[0])
    now_s += FRESH_S - 1
    assert await cache.caller(token) is not None  # from the cache
    now_s += 2
    assert await cache.caller(token) is None  # looked up again
