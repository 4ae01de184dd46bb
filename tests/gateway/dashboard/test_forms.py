"""Forms without script, sent as a browser sends them, and as foreign pages would like to."""

import uuid
from typing import Any

import pytest

from services.gateway.access import Role
from services.gateway.dashboard.people import LOGOUT_PATH
from services.gateway.dashboard.rendering import LOGIN_PATH, PATH
from tests.gateway.access.conftest import COOKIE, PASSWORD, People, Session, people
from tests.gateway.conftest import Answer, Client, Log
from tests.gateway.reads.conftest import Hand

__all__ = ["people"]

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def sent(client: Client, path: str, fields: Any, headers: dict[str, str]) -> Answer:
    said = {"Accept": "text/html", **headers}
    return await client.request("POST", path, data=fields, headers=said, allow_redirects=False)


def fields(session: Session, **said: str) -> dict[str, str]:
    return {"csrf": session.csrf_token, **said}


async def test_a_form_without_the_sessions_token_changes_nothing(
    client: Client, hand: Hand, people: People, log: Log
) -> None:
    failed = await hand.failed()
    operator, viewer = await people.logged_in(Role.OPERATOR), await people.logged_in(Role.VIEWER)
    path = f"{PATH}/orders/{failed}"
    bare = operator.but(X_CSRF_Token=None)
    retry = {"act": "retry"}
    refused = [
        (retry, bare),
        (fields(viewer, **retry), bare),
        (fields(operator, **retry), operator.but(X_CSRF_Token=None, Origin="http://elsewhere.example.com")),
        (fields(operator, **retry), operator.but(X_CSRF_Token=None, Origin=None)),
        (fields(operator, **retry), bare | {"Sec-Fetch-Site": "cross-site"}),
        (fields(operator, **retry), operator.but(X_CSRF_Token="0" * 64)),
        (fields(viewer, **retry), viewer.but(X_CSRF_Token=None)),
    ]
    for said, headers in refused:
        assert (await sent(client, path, said, headers)).status == 403
    assert await log.commands(failed) == []
    assert (await sent(client, LOGOUT_PATH, {}, bare)).status == 403
    answer = await sent(client, path, fields(operator, **retry), bare)
    assert (answer.status, answer.headers["Location"]) == (303, path)
    assert len(await log.commands(failed)) == 1
    (noted,) = await people.audited(actor=f"user:{operator.name}", action="retry")
    assert noted["target"] == failed


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"act": "nothing-like-it"}, 400),
        ({}, 400),
        ({"act": "cancel"}, 400),
        ({"act": "cancel", "reason": "ab"}, 400),
        ({"act": "cancel", "reason": "a\x00bc"}, 400),
        ({"act": "cancel", "reason": "x" * 1001}, 400),
        ({"act": "cancel", "reason": "it was attempted"}, 409),
        ({"act": "override", "reason": "attempts are left"}, 409),
    ],
)
async def test_what_a_form_says_wrongly_is_a_page_that_says_so(
    client: Client, hand: Hand, people: People, said: dict[str, str], status: int
) -> None:
    failed = await hand.failed()
    operator = await people.logged_in(Role.OPERATOR)
    answer = await sent(client, f"{PATH}/orders/{failed}", fields(operator, **said), operator.headers)
    assert answer.status == status
    assert b"<h1>" in answer.content
    assert f'href="{PATH}/orders/{failed}"'.encode() in answer.content


async def test_bodies_that_are_no_form_are_refused(client: Client, people: People) -> None:
    operator = await people.logged_in(Role.OPERATOR)
    path = f"{PATH}/orders/{uuid.uuid4()}"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for body, headers, status in (
        (b"act=%ff", form, 400),
        ("act=é".encode(), form, 400),
        (b"act=retry&act=cancel", form, 400),
        (b"&".join(b"a%d=1" % n for n in range(30)), form, 400),
        (b"a=" + b"b" * 70_000, form, 413),
        (b"act=retry", {"Content-Type": "application/x-www-form-urlencoded; charset=utf-7"}, 415),
        (b"{}", {"Content-Type": "application/json"}, 415),
        (b"act=retry", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
    ):
        answer = await sent(client, path, body, operator.headers | headers)
        assert answer.status == status, body[:30]


async def test_a_login_leads_where_one_wanted_to_but_never_elsewhere(client: Client, people: People) -> None:
    name = await people.add(Role.VIEWER)
    said = {"username": name, "password": PASSWORD}
    wanted = {
        f"{PATH}/health": f"{PATH}/health",
        "//elsewhere.example.com/": PATH,
        "https://elsewhere.example.com": PATH,
    }
    for following, where in wanted.items():
        answer = await sent(client, f"{LOGIN_PATH}?next={following}", said, {})
        assert (answer.status, answer.headers["Location"]) == (303, where)
        assert answer.headers["Set-Cookie"].startswith(f"{COOKIE}=")
    wrong = await sent(client, LOGIN_PATH, said | {"password": "not the password"}, {})
    assert wrong.status == 401
    assert "Set-Cookie" not in wrong.headers
    assert b"not the password" not in wrong.content
    assert (await sent(client, LOGIN_PATH, said, {"Origin": "http://elsewhere.example.com"})).status == 403
