"""Every parameter, wrong in every way: 400, which names it."""

import base64

import orjson
import pytest

from services.gateway.reads.questions import Listing, Sort
from services.gateway.reads.selection import cursor
from tests.gateway.reads.conftest import EXPORT, LOGS, STATS, STREAM, Reader

pytestmark = pytest.mark.asyncio(loop_scope="session")

NONSENSE = (
    "",
    " ",
    "x" * 5000,
    "\x00",
    "😀",
    "' OR 1=1 --",
    "../../etc/passwd",
    "null",
    "[]",
    "%",
    "\u202e1",
)
TIMES = (
    *NONSENSE, "now", "0", "-1", "1769860800", "2026-13-01", "2026-02-30", "2026-01-31T12:00:00", "2026-01-31 25:00Z",
    "1999-12-31", "3001-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "\u0662026-01-31",
    "2026-01-31T12:00:00+99:00", "2026-W05", "2026-01-31T12:00:00 00:00",
)  # fmt: skip
UUIDS = (*NONSENSE, "1", "6f1c1a539a445d0e8f6d2b8f3f6f0a51", "{6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51}")
WRONG: dict[str, tuple[str, ...]] = {
    "status": (*NONSENSE, "delivered", "Success", "success,failed"),
    "state": (*NONSENSE, "success", "Delivered"),
    "phone": (
        *NONSENSE, "+", "++233", "abc", "024x", "0" * 16, "٠٢٤", "024\u200b", "=1", "024;", "0 2 4" * 20, "%024%", "_",
    ),
    "network": (*NONSENSE, "Vodacom", "1"),
    "failure": ("", " ", "x" * 5000, "\x00", "' OR 1=1 --", "../etc", "%", "a b", "é", "a" * 65),
    "from": TIMES,
    "to": TIMES,
    "orderId": UUIDS,
    "reference": ("", "a b", "x" * 129, "é", "\x00"),
    "q": ("", " ", "x" * 5000, "é", "\x00", "two words"),
    "sort": (*NONSENSE, "phone_number", "created_at desc", "--created_at", "price", "created_at;DROP TABLE orders"),
    "cursor": (*NONSENSE, "AAAA", "e30", "W10", "bnVsbA"),
    "limit": (*NONSENSE, "0", "-1", "201", "1.5", "1e2", "NaN", "1" * 5000, "٣"),
}  # fmt: skip
CASES = [(name, value) for name, values in WRONG.items() for value in values]


def named(name: str) -> str:
    return "reference" if name == "q" else name


@pytest.mark.parametrize("name", sorted(WRONG))
async def test_a_wrong_parameter_is_named(viewer: Reader, name: str) -> None:
    for value in WRONG[name]:
        answer = await viewer.get(LOGS, **{name: value})
        assert answer.is_problem(400), (name, value)
        assert answer.json["detail"].startswith((name, named(name))), (value, answer.json["detail"])


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (LOGS, "?nonsense=1"), (LOGS, "?Status=success"), (LOGS, "?status=success&status=failed"), (LOGS, "?limit"),
        (LOGS, "?from=2026-02-01&to=2026-01-01"), (LOGS, "?q=024&phone=024"), (LOGS, "?phone=%ff%fe"), (LOGS, "?%00=1"),
        (LOGS, "?status=%E2%82"), (LOGS, "?" + "&".join(f"a{n}=1" for n in range(500))),
        (EXPORT, "?limit=5"), (EXPORT, "?cursor=AAAA"), (EXPORT, "?sort=network"), (EXPORT, "?phone=x"),
        (EXPORT, "?format=xlsx"), (STATS, "?status=failed"), (STATS, "?bucket=week"), (STATS, "?bucket="),
        (STATS, "?bucket=minute&from=2026-01-01&to=2026-01-31"), (STATS, "?from=2000-01-01"), (STATS, "?to=now"),
        (STATS, "?from=2026-02-01&to=2026-01-01"), (STATS, "?network=x"), (STATS, "?bucket=hour&bucket=day"),
        (STREAM, "?since=1"),
    ],
)  # fmt: skip
async def test_a_wrong_question_is_refused(viewer: Reader, path: str, wrong: str) -> None:
    assert (await viewer.get(path + wrong)).is_problem(400)


@pytest.mark.parametrize(
    "values",
    [[], ["x"], ["x", "y", "z"], {}, 5, None, [1, 2, 3], ["000000000000", "2026-01-31T12:00:00Z", 5],
     ["000000000000", None, None], ["000000000000", "9999-99-99", "6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51"]],
)  # fmt: skip
async def test_a_forged_cursor_is_refused(viewer: Reader, values: object) -> None:
    forged = base64.urlsafe_b64encode(orjson.dumps(values)).rstrip(b"=").decode()
    assert (await viewer.get(LOGS, cursor=forged)).is_problem(400)


@pytest.mark.parametrize(
    ("sort", "values"),
    [
        ("-created_at", ["0001-01-01T00:00:00+14:00", "6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51"]),
        ("-created_at", ["9999-12-31T23:59:59-14:00", "6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51"]),
        ("-created_at", ["2026-01-31T12:00:00Z", 5]),
        ("network", [5, "2026-01-31T12:00:00Z", "6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51"]),
        ("network", ["a\0b", "2026-01-31T12:00:00Z", "6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51"]),
        ("network", [["a"], "2026-01-31T12:00:00Z", "6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51"]),
    ],
)
async def test_a_cursor_with_other_values_is_refused(viewer: Reader, sort: str, values: list[object]) -> None:
    digest = orjson.loads(base64.urlsafe_b64decode(cursor(Listing(sort=Sort(sort)), values) + "==="))[0]
    forged = base64.urlsafe_b64encode(orjson.dumps([digest, *values])).rstrip(b"=").decode()
    assert (await viewer.get(LOGS, sort=sort, cursor=forged)).is_problem(400)


@pytest.mark.parametrize("last", ["", "x", "1", "1_", "_1", "1_2_3", "1.2.3_-1", "1" * 19 + "_1", "٣_1", "1;2"])
async def test_a_wrong_last_event_id_is_refused(viewer: Reader, last: str) -> None:
    answer = await viewer.get(STREAM, {"Last-Event-ID": last})
    assert answer.is_problem(400)
    assert answer.json["detail"].startswith("Last-Event-ID")
    answer = await viewer.get(STREAM, since=last)
    assert answer.is_problem(400)
    assert answer.json["detail"].startswith("since")
