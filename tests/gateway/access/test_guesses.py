"""Whoever guesses at keys and sessions asks PostgreSQL little, and harms nobody that the gateway knows."""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any, Final

import pytest
import pytest_asyncio

from services.gateway import keys
from services.gateway.access import GUESSES_AT_ONCE, Role
from services.gateway.address import household
from services.gateway.rates import CALLERS, Rates
from tests.gateway.access.conftest import People, login
from tests.gateway.conftest import Stand, View, standing
from tests.gateway.test_access import ELSEWHERE, bearer
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

GUESSES: Final = 4 * GUESSES_AT_ONCE


@pytest_asyncio.fixture(loop_scope="session")
async def proxied(stand: Stand) -> AsyncIterator[Stand]:
    """Behind a proxy on this machine, so that callers have addresses of their own."""
    settings = stand.settings.model_copy(update={"trusted_proxies": (ip_network("127.0.0.0/8"),)})
    async with standing(settings) as proxied:
        await until(lambda: proxied.gateway.database.up, "PostgreSQL")
        yield proxied


async def statuses(stand: Stand, address: str, *said: dict[str, str]) -> list[int]:
    async def one(headers: dict[str, str]) -> int:
        headers = ELSEWHERE | {"X-Forwarded-For": address} | headers
        answer = await stand.client.request("GET", "/api/session", headers=headers)
        assert answer.status != 429 or (answer.is_problem(429) and int(answer.headers["Retry-After"]) >= 1)
        return answer.status

    return list(await asyncio.gather(*map(one, said)))


def key() -> dict[str, str]:
    return bearer(f"{secrets.token_hex(8)}.{secrets.token_urlsafe(32)}")


def session() -> dict[str, str]:
    return {"Cookie": f"fulfillment-session={secrets.token_urlsafe(32)}"}


@pytest.mark.parametrize("guess", [key, session])
async def test_guesses_of_one_address_cost_few_queries_and_known_callers_nothing(
    proxied: Stand, view: View, people: People, monkeypatch: pytest.MonkeyPatch, guess: Any
) -> None:
    known = [
        bearer(await keys.create(view.connection, Role.VIEWER, None)),
        (await people.logged_in(Role.VIEWER)).headers,
    ]
    assert await statuses(proxied, "192.0.2.1", *known) == [200, 200]
    asked = 0
    ask = proxied.gateway.database.fetchrow

    async def counted(name: str, *args: Any, **kwargs: Any) -> Any:
        nonlocal asked
        asked += name in {"key", "session"}
        return await ask(name, *args, **kwargs)

    monkeypatch.setattr(proxied.gateway.database, "fetchrow", counted)
    began_s = asyncio.get_running_loop().time()
    answered = Counter(await statuses(proxied, "192.0.2.1", *(guess() for _ in range(GUESSES))))
    passed_s = asyncio.get_running_loop().time() - began_s
    assert answered.keys() == {401, 429}
    assert asked == answered[401]
    assert GUESSES_AT_ONCE <= asked <= GUESSES_AT_ONCE + passed_s + 1
    # Who is known goes on, others at other addresses begin, and a new key at this one has to wait but a little.
    assert await statuses(proxied, "192.0.2.1", *known) == [200, 200]
    new = bearer(await keys.create(view.connection, Role.VIEWER, None))
    assert await statuses(proxied, "192.0.2.2", new, guess()) == [200, 401]
    other = bearer(await keys.create(view.connection, Role.VIEWER, None))

    async def let_in() -> bool:
        return await statuses(proxied, "192.0.2.1", other) == [200]

    await until(let_in, "a new key to be looked at")


async def test_what_is_no_guess_is_not_counted(proxied: Stand, view: View) -> None:
    """Good keys, however many are new at once; one wrong credential again and again; what can be no key at all."""
    for _ in range(3):
        tokens = [await keys.create(view.connection, Role.VIEWER, None) for _ in range(GUESSES_AT_ONCE // 2)]
        assert {*await statuses(proxied, "192.0.2.3", *map(bearer, tokens))} == {200}
    for wrong in (key(), session(), bearer("nonsense"), {"Cookie": "fulfillment-session=x"}):
        assert await statuses(proxied, "192.0.2.3", wrong) == [401]
        assert {*await statuses(proxied, "192.0.2.3", *[wrong] * GUESSES)} == {401}


@pytest.mark.parametrize(
    ("address", "party"),
    [
        ("192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"), ("", ""), ("unix", "unix"),
    ],
)  # fmt: skip
async def test_nobody_has_many_addresses_by_having_a_network(address: str, party: str) -> None:
    assert household(address) == party


async def test_failed_logins_of_a_network_are_counted_together(proxied: Stand, people: People) -> None:
    name = await people.add(Role.VIEWER)
    await people.connection.execute(
        "INSERT INTO access.login_failures (subject, failures) VALUES ('address:2001:db8:1:2::/64', 29)"
    )
    assert (
        await login(proxied.client, name, "a wrong password", **{"X-Forwarded-For": "2001:db8:1:2::5"})
    ).status == 401
    assert (await login(proxied.client, name, **{"X-Forwarded-For": "2001:db8:1:2:3::6"})).is_problem(429)
    assert (await login(proxied.client, name, **{"X-Forwarded-For": "2001:db8:1:3::6"})).status == 200
    [line] = await people.audited(actor=f"user:{name}", action="login")
    assert line["address"] == "2001:db8:1:3::6"


async def test_what_is_remembered_of_addresses_and_guesses_is_bounded(proxied: Stand) -> None:
    rates = Rates(1, 2)
    for number in range(CALLERS + 100):
        rates.take(str(number))
    assert len(rates) == CALLERS
    rates.give_back("0")
    assert len(rates) == CALLERS
    for _ in range(3):
        rates.give_back("100")
    quotas = [rates.take("100") for _ in range(4)]
    assert [quota is not None and quota.allowed for quota in quotas] == [True, True, False, False], "no more than ever"


async def test_one_address_that_floods_leaves_room_for_others(proxied: Stand, people: People) -> None:
    names = [await people.add(Role.VIEWER) for _ in range(3)]
    flood = [
        asyncio.create_task(
            login(proxied.client, f"nobody-{n}", "a wrong password", **{"X-Forwarded-For": "203.0.113.7"})
        )
        for n in range(60)
    ]
    # The first to be turned away find no room.
    await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
    answers = [
        await login(proxied.client, name, **{"X-Forwarded-For": f"198.51.100.{n}"}) for n, name in enumerate(names)
    ]
    assert [answer.status for answer in answers] == [200] * 3
    assert {answer.status for answer in await asyncio.gather(*flood)} == {401, 429}
