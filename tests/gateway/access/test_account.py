"""One's own password, and how long it is remembered who did what."""

from typing import Final

import asyncpg
import pytest

from services.gateway import keys
from services.gateway.access import Role
from tests.gateway.access.conftest import PASSWORD, People, Session, login
from tests.gateway.conftest import Answer, Client, Stand, View
from tests.gateway.test_access import ELSEWHERE, bearer

pytestmark = pytest.mark.asyncio(loop_scope="session")

NEW: Final = "a horse that staples batteries"


async def change(client: Client, session: Session, current: str = PASSWORD, new: str = NEW) -> Answer:
    return await client.request(
        "POST", "/api/account/password", json={"current": current, "new": new}, headers=session.headers
    )


async def is_in(client: Client, session: Session) -> bool:
    return (await client.request("GET", "/api/session", headers=session.headers)).status == 200


async def test_a_new_password_ends_the_other_sessions(client: Client, people: People) -> None:
    here = await people.logged_in(Role.VIEWER)
    second = await login(client, here.name)
    elsewhere = Session(
        here.name, second.headers["Set-Cookie"].split("=")[1].split(";")[0], second.json["csrfToken"], here.origin
    )
    stranger = await people.logged_in(Role.VIEWER)
    assert (await change(client, here)).status == 200
    assert [await is_in(client, one) for one in (here, elsewhere, stranger)] == [True, False, True]
    assert (await login(client, here.name)).is_problem(401)
    assert (await login(client, here.name, NEW)).status == 200
    (noted,) = await people.audited(action="password_changed", target=here.name)
    assert noted["actor"] == f"user:{here.name}"
    assert PASSWORD not in str(noted)
    assert NEW not in str(noted)


@pytest.mark.parametrize(
    ("new", "why"),
    [("short", "new"), ("a" * 20, "too few different"), ("x" * 300, "new"), ("", "new")],
)
async def test_what_is_no_password_changes_nothing(client: Client, people: People, new: str, why: str) -> None:
    session = await people.logged_in(Role.VIEWER)
    answer = await change(client, session, new=new)
    assert answer.is_problem(400)
    assert why in answer.json["detail"]
    assert new not in answer.content.decode() or not new
    assert (await login(client, session.name)).status == 200


async def test_guesses_of_the_current_one_are_slowed_down_as_logins_are(client: Client, people: People) -> None:
    session = await people.logged_in(Role.OPERATOR)
    answers = [await change(client, session, "another password") for _ in range(6)]
    assert [answer.status for answer in answers] == [403] * 5 + [429]
    assert answers[0].json["type"] == "urn:fulfillment:wrong-password"
    assert int(answers[-1].headers["Retry-After"]) >= 1
    # Who knows it has to wait as well, at the login too.
    assert (await change(client, session)).is_problem(429)
    assert (await login(client, session.name)).is_problem(429)
    assert len(await people.audited(action="password_change_failed", target=session.name)) == 5
    assert await is_in(client, session)


async def test_it_is_for_people_and_from_our_own_pages(client: Client, view: View, people: People) -> None:
    key = await keys.create(view.connection, Role.ADMIN, None)
    said = {"current": PASSWORD, "new": NEW}
    answer = await client.request("POST", "/api/account/password", json=said, headers=ELSEWHERE | bearer(key))
    assert answer.is_problem(400)
    assert "log in" in answer.json["detail"]
    session = await people.logged_in(Role.ADMIN)
    foreign = session.but(X_CSRF_Token="0" * 64)
    assert (await client.request("POST", "/api/account/password", json=said, headers=foreign)).is_problem(403)
    assert (await login(client, session.name)).status == 200


async def test_the_audit_log_is_forgotten_from_its_old_end_alone(stand: Stand, people: People) -> None:
    async def lines(action: str) -> int:
        return len(await people.audited(action=action))

    for days, action in ((500, "old"), (399, "young")):
        await people.connection.execute(
            "INSERT INTO access.audit (at, actor, action) SELECT now() - make_interval(days => $1), 'x', $2"
            " FROM generate_series(1, 2)",
            days,
            action,
        )
    # Where there are newer lines before them nothing is forgotten that is not in the batch of the oldest.
    assert await people.connection.fetchval("SELECT access.forget_audit(now() - interval '400 days', 1)") == 0
    await stand.gateway.audit.forget(stand.settings.audit_retention)
    assert (await lines("old"), await lines("young")) == (0, 2)
    (noted,) = await people.audited(action="audit_forgotten")
    assert (noted["actor"], '"lines":2' in noted["detail"].replace(" ", "")) == ("gateway", True)
    for sql in ("DELETE FROM access.audit WHERE action = 'young'", "SELECT access.forget_audit(now(), 1000)"):
        with pytest.raises(asyncpg.RaiseError, match="only added to"):
            await people.connection.execute(sql)
