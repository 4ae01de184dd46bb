"""People: login, its limits, sessions and their ends, and what a foreign page can make of them."""

import asyncio
from http.cookies import SimpleCookie

import aiohttp
import pytest

from services.gateway.access import Role
from services.gateway.passwords import Passwords, check
from services.settings import Environment
from tests.gateway.access.conftest import COOKIE, PASSWORD, People, Session, login
from tests.gateway.conftest import Answer, Client, Stand, standing
from tests.gateway.reads.conftest import STREAM
from tests.gateway.test_access import ELSEWHERE
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


def cookie(answer: Answer) -> SimpleCookie:
    return SimpleCookie(answer.headers["Set-Cookie"])


async def who(client: Client, **headers: str) -> Answer:
    return await client.request("GET", "/api/session", headers=ELSEWHERE | headers)


async def test_a_login_gives_a_session_that_says_who_one_is(client: Client, people: People) -> None:
    name = await people.add(Role.OPERATOR)
    answer = await login(client, name.upper())
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    given = cookie(answer)[COOKIE]
    assert (given["httponly"], given["samesite"], given["path"], given["secure"]) == (True, "Lax", "/", "")
    assert given.value.encode() not in answer.content
    said = await who(client, Cookie=f"{COOKIE}={given.value}")
    assert said.json["caller"] == {"actor": f"user:{name}", "account": f"user.{name}", "roles": ["operator"]}
    assert said.json["csrfToken"] == answer.json["csrfToken"]
    stored = await people.connection.fetch("SELECT s::text AS said FROM access.sessions AS s")
    assert not any(given.value in row["said"] for row in stored)
    assert len(await people.audited(actor=f"user:{name}", action="login")) == 1


async def test_outside_development_the_cookie_is_for_https_and_this_host_alone(stand: Stand, people: People) -> None:
    name = await people.add(Role.ADMIN)
    settings = stand.settings.model_copy(
        update={"environment": Environment.PRODUCTION, "allowed_hosts": ("shop.example.com",)}
    )
    async with standing(settings) as production:
        await until(lambda: production.gateway.database.up, "PostgreSQL")
        answer = await login(production.client, name, Host="shop.example.com")
        given = cookie(answer)[f"__Host-{COOKIE}"]
        assert (given["secure"], given["httponly"], given["domain"]) == (True, True, "")
        assert answer.headers["Strict-Transport-Security"]
        headers = {
            "Host": "shop.example.com",
            "Cookie": f"__Host-{COOKIE}={given.value}",
            "X-CSRF-Token": answer.json["csrfToken"],
        }
        for origin, status in (("http://shop.example.com", 403), ("https://shop.example.com", 200)):
            out = await production.client.request("POST", "/logout", headers=headers | {"Origin": origin})
            assert out.status == status


async def test_a_login_begins_anew_and_a_logout_ends(client: Client, people: People) -> None:
    name = await people.add(Role.VIEWER)
    first = cookie(await login(client, name))[COOKIE].value
    answer = await login(client, name, Cookie=f"{COOKIE}={first}")
    second = cookie(answer)[COOKIE].value
    assert first != second
    assert (await who(client, Cookie=f"{COOKIE}={first}")).is_problem(401)
    session = Session(name, second, answer.json["csrfToken"], "http://shop.example.com")
    out = await client.request("POST", "/logout", headers=session.headers)
    assert out.status == 200
    assert cookie(out)[COOKIE]["max-age"] == "0"
    assert (await who(client, Cookie=f"{COOKIE}={second}")).is_problem(401)
    assert len(await people.audited(actor=f"user:{name}", action="logout")) == 1


@pytest.mark.parametrize("wrong", ["another password", "", " " + PASSWORD, PASSWORD.upper()])
async def test_a_wrong_password_and_an_unknown_name_are_answered_alike(
    client: Client, people: People, wrong: str
) -> None:
    name = await people.add(Role.VIEWER)
    known, unknown = await login(client, name, wrong), await login(client, "nobody", wrong)
    assert known.status == unknown.status == (401 if wrong else 400)
    assert known.content == unknown.content
    if wrong:
        assert len(await people.audited(action="login_failed", target=name)) == 1


async def failed(people: People, subject: str, failures: int) -> None:
    """So often in a row, the last wait being over."""
    await people.connection.execute(
        "INSERT INTO access.login_failures (subject, failures) VALUES ($1, $2)"
        " ON CONFLICT (subject) DO UPDATE SET failures = $2, blocked_until = '-infinity'",
        subject,
        failures,
    )


async def test_of_guesses_that_come_at_once_only_one_is_looked_at(client: Client, people: People) -> None:
    name = await people.add(Role.VIEWER)
    await failed(people, f"user:{name}", 14)
    answers = await asyncio.gather(*(login(client, name, "a wrong password") for _ in range(12)))
    assert sorted(answer.status for answer in answers) == [401] + [429] * 11
    assert all(1 <= int(answer.headers["Retry-After"]) <= 900 for answer in answers if answer.status == 429)
    # The right one has to wait as well, or the wait would tell which is right.
    assert (await login(client, name)).is_problem(429)


async def test_who_guesses_waits_longer_each_time(client: Client, people: People) -> None:
    name = await people.add(Role.VIEWER)
    waits = []
    for failures in (5, 6, 7, 40):
        await failed(people, f"user:{name}", failures)
        assert (await login(client, name, "a wrong password")).status == 401
        waits.append(int((await login(client, name)).headers["Retry-After"]))
    assert waits[0] < waits[1] < waits[2] < waits[3] <= 30
    await failed(people, f"user:{name}", 3)
    assert (await login(client, name)).status == 200
    assert (
        await people.connection.fetchval("SELECT count(*) FROM access.login_failures WHERE subject LIKE 'user:%'") == 0
    )


async def test_whoever_is_blocked_at_an_address_locks_nobody_out_elsewhere(client: Client, people: People) -> None:
    name = await people.add(Role.VIEWER)
    await failed(people, "address:127.0.0.1", 40)
    assert (await login(client, name, "a wrong password")).status == 401
    for _ in range(8):
        assert (await login(client, name, "a wrong password")).is_problem(429)
    failures = "SELECT failures FROM access.login_failures WHERE subject = $1"
    assert await people.connection.fetchval(failures, f"user:{name}") == 1


@pytest.mark.parametrize("ended_by", ["age", "logout"])
async def test_a_session_s_end_is_its_stream_s_end(client: Client, people: People, ended_by: str) -> None:
    session = await people.logged_in(Role.VIEWER)
    if ended_by == "age":
        await people.age(session, created_s=12 * 3600 - 3, seen_s=0)
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{client.port}", cookie_jar=aiohttp.DummyCookieJar()) as browser,
        browser.get(STREAM, headers=session.headers) as response,
    ):
        assert response.status == 200
        assert await response.content.readline()
        if ended_by == "logout":
            assert (await client.request("POST", "/logout", headers=session.headers)).status == 200
        async with asyncio.timeout(30):
            while await response.content.readline():
                pass
    assert (await who(client, Cookie=f"{COOKIE}={session.token}")).is_problem(401)


async def test_a_flood_of_logins_is_turned_away_and_purchases_go_on(client: Client, people: People) -> None:
    name = await people.add(Role.VIEWER)
    flood = asyncio.gather(*(login(client, name, "a wrong password") for _ in range(60)))
    bought = await asyncio.gather(*(client.purchase() for _ in range(5)))
    assert [answer.status for answer in bought] == [202] * 5
    assert {answer.status for answer in await flood} == {401, 429}


async def test_an_address_waits_whatever_names_it_tries(client: Client, people: People) -> None:
    name = await people.add(Role.VIEWER)
    await failed(people, "address:127.0.0.1", 29)
    assert (await login(client, "nobody-yet", "a wrong password")).status == 401
    told = await login(client, name)
    assert told.is_problem(429)
    assert 30 < int(told.headers["Retry-After"]) <= 900


async def test_a_disabled_user_is_out_at_once_and_cannot_come_back(client: Client, people: People) -> None:
    admin, user = await people.logged_in(Role.ADMIN), await people.logged_in(Role.OPERATOR)
    assert (await who(client, **user.headers)).status == 200
    path = f"/api/admin/users/{user.name}"
    out = await client.request("PATCH", path, headers=admin.headers, json={"disabled": True})
    assert out.json["user"]["disabled_at"]
    assert (await who(client, **user.headers)).is_problem(401)
    assert (await login(client, user.name)).is_problem(401)
    back = await client.request("PATCH", path, headers=admin.headers, json={"disabled": False})
    assert back.json["user"]["disabled_at"] is None
    assert (await login(client, user.name)).status == 200


@pytest.mark.parametrize("meanwhile", ["new password", "disabled", "disabled and back"])
async def test_a_login_is_good_for_what_was_proven_alone(
    client: Client, people: People, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """What changes while the password is looked at ends the login; the old hash is not written back."""
    admin, name = await people.logged_in(Role.ADMIN), await people.add(Role.OPERATOR)
    changes = {
        "new password": [{"password": "another long password"}],
        "disabled": [{"disabled": True}],
        "disabled and back": [{"disabled": True}, {"disabled": False}],
    }[meanwhile]
    matches = Passwords.matches

    async def slow(passwords: Passwords, stored: str | None, password: str) -> bool:
        for change in changes:
            answer = await client.request("PATCH", f"/api/admin/users/{name}", headers=admin.headers, json=change)
            assert answer.status == 200
        return await matches(passwords, stored, password)

    monkeypatch.setattr(Passwords, "matches", slow)
    monkeypatch.setattr(Passwords, "renewed", lambda _passwords, _stored, password: Passwords().hashed(password))
    assert (await login(client, name)).is_problem(401)
    monkeypatch.undo()
    assert len(await people.audited(action="login_failed", target=name)) == 1
    assert await people.connection.fetchval("SELECT count(*) FROM access.sessions WHERE user_name = $1", name) == 0
    if meanwhile == "new password":
        assert (await login(client, name)).is_problem(401)
        assert (await login(client, name, "another long password")).status == 200


async def test_a_session_begun_beside_a_new_password_is_none(client: Client, people: People) -> None:
    """Each of the two statements may not see what the other wrote."""
    session = await people.logged_in(Role.VIEWER)
    assert (await who(client, **session.headers)).status == 200
    await people.connection.execute("UPDATE access.users SET credential = credential + 1 WHERE name = $1", session.name)
    assert (await who(client, **session.headers)).is_problem(401)


async def test_a_role_counts_from_the_next_call_on_and_a_password_ends_sessions(client: Client, people: People) -> None:
    admin, user = await people.logged_in(Role.ADMIN), await people.logged_in(Role.OPERATOR)
    path = f"/api/admin/users/{user.name}"
    assert (await client.request("PATCH", path, headers=admin.headers, json={"role": "viewer"})).status == 200
    assert (await who(client, **user.headers)).json["caller"]["roles"] == ["viewer"]
    new = {"password": "another long password"}
    assert (await client.request("PATCH", path, headers=admin.headers, json=new)).status == 200
    assert (await who(client, **user.headers)).is_problem(401)
    assert (await login(client, user.name)).is_problem(401)
    assert (await login(client, user.name, new["password"])).status == 200
    [row] = [row for row in await people.audited(target=user.name) if '"password": true' in row["detail"]]
    assert new["password"] not in row["detail"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 200, id="as a page sends it"),
        pytest.param({"Origin": "HTTP://SHOP.example.com"}, 200, id="in capitals"),
        pytest.param({"Sec-Fetch-Site": "same-origin"}, 200, id="said to be our own"),
        pytest.param({"X-CSRF-Token": None}, 403, id="no token"),
        pytest.param({"X-CSRF-Token": ""}, 403, id="empty token"),
        pytest.param({"X-CSRF-Token": "0" * 64}, 403, id="wrong token"),
        pytest.param({"X-CSRF-Token": "é"}, 403, id="token that is not ASCII"),
        pytest.param({"Origin": None}, 403, id="no origin"),
        pytest.param({"Origin": "null"}, 403, id="null origin"),
        pytest.param({"Origin": "https://evil.example.com"}, 403, id="foreign origin"),
        pytest.param({"Origin": "http://shop.example.com.evil.example.com"}, 403, id="longer origin"),
        pytest.param({"Origin": "http://shop.example.com:8080"}, 403, id="other port"),
        pytest.param({"Origin": "http://["}, 403, id="no URL"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, 403, id="said to be foreign"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, 403, id="said to be a neighbour"),
    ],
)
async def test_a_foreign_page_changes_nothing(
    client: Client, people: People, headers: dict[str, str | None], status: int
) -> None:
    session = await people.logged_in(Role.VIEWER)
    answer = await client.request("POST", "/logout", headers=session.but(**headers))
    assert answer.status == status
    if status == 403:
        assert answer.json["type"] == "urn:fulfillment:foreign-request"
        assert (await who(client, Cookie=session.headers["Cookie"])).status == 200


async def test_a_token_is_of_its_own_session_alone(client: Client, people: People) -> None:
    one, other = await people.logged_in(Role.VIEWER), await people.logged_in(Role.VIEWER)
    answer = await client.request("POST", "/logout", headers=one.but(X_CSRF_Token=other.csrf_token))
    assert answer.is_problem(403)


async def test_nobody_is_logged_in_by_a_foreign_page(client: Client, people: People) -> None:
    name = await people.add(Role.VIEWER)
    assert (await login(client, name, Origin="https://evil.example.com")).is_problem(403)
    assert (await login(client, name, **{"Sec-Fetch-Site": "cross-site"})).is_problem(403)
    form = await client.request("POST", "/login", data={"username": name, "password": PASSWORD})
    assert form.is_problem(415)


@pytest.mark.parametrize("password", ["short", "x" * 257, "aaaaaaaaaaaaaaaa", "amaamaama123", "ama12345678901"])
async def test_what_is_no_password(password: str) -> None:
    with pytest.raises(ValueError, match="password"):
        check("ama", password)
