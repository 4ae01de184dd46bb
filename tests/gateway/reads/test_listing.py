import itertools
from datetime import timedelta

import pytest

from services.gateway.reads.phone import phone_part
from services.gateway.reads.questions import STATUS_OF
from services.projector.projection import STATUS
from tests.gateway.reads.conftest import LOGS, Hand, Reader
from tests.projector.events import NOON

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_list_is_the_rows_themselves_and_the_newest_first(viewer: Reader, hand: Hand) -> None:
    older = await hand.delivered(made=NOON)
    newer = await hand.failed(made=NOON + timedelta(seconds=1))
    said = await viewer.logs()
    assert [row["order_id"] for row in said["logs"]] == [newer, older]
    columns = await hand.connection.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'fulfillment_logs'"
        " AND table_schema = 'public'"
    )
    assert set(said["logs"][0]) == {column["column_name"] for column in columns}
    assert said["statusCounts"] == {"total": 2, "success": 1, "failed": 1, "processing": 0, "pending": 0}
    assert (said["next"], said["countsComplete"]) == (None, True)


async def test_every_filter(viewer: Reader, hand: Hand) -> None:
    mtn = await hand.delivered(network="MTN", phone_number="+233241234567", transaction_id="AT-77")
    telecel = await hand.failed(network="Telecel", made=NOON + timedelta(hours=1), code="NO_SUCH_NUMBER")
    open_one = (await hand.open(made=NOON + timedelta(hours=2))).order_id
    received = await hand.received(created_at=NOON + timedelta(hours=3))
    assert await viewer.ids(status="success") == {mtn}
    assert await viewer.ids(status="pending") == {received}
    assert await viewer.ids(state="attempting") == {open_one}
    assert await viewer.ids(state="attempting", status="failed") == set()
    assert await viewer.ids(network="telecel") == {telecel}
    assert await viewer.ids(failure="NO_SUCH_NUMBER") == {telecel}
    assert await viewer.ids(from_="2026-01-31T13:00:00Z") == {telecel, open_one, received}
    assert await viewer.ids(to="2026-01-31T13:00:00Z") == {mtn}
    assert await viewer.ids(from_="2026-01-31T13:00:00+00:00", to="2026-01-31T14:00:00.000001Z") == {telecel, open_one}
    assert await viewer.ids(from_="2026-02-01") == set()
    assert await viewer.ids(orderId=mtn.upper()) == {mtn}
    assert await viewer.ids(reference=mtn) == {mtn}
    assert await viewer.ids(reference=f"{mtn}-r2") == {mtn}
    assert await viewer.ids(reference="AT-77") == {mtn}
    assert await viewer.ids(q="AT-77") == {mtn}
    assert await viewer.ids(q=f" {telecel} ") == {telecel}
    assert await viewer.ids(q="024 123") == {mtn}
    assert await viewer.ids(network="MTN", status="success", phone="0241", reference="AT-77") == {mtn}


@pytest.mark.parametrize(
    "typed",
    ["024 1234567", "0241234567", "233241234567", "+233241234567", "+233 24-123.4567", "241234567", "00233241234567",
     "024", "0241", "+23324", "23324", "2332", "1234", "4567", "567", "7", "3241234", "(024)"],
)  # fmt: skip
async def test_any_part_of_a_number_in_any_spelling(viewer: Reader, hand: Hand, typed: str) -> None:
    theirs = await hand.delivered(phone_number="+233241234567")
    await hand.delivered(phone_number="+233509988010")
    assert await viewer.ids(phone=typed) == {theirs}


async def test_what_is_no_part_finds_nothing(viewer: Reader, hand: Hand) -> None:
    await hand.delivered(phone_number="+233241234567")
    for typed in ("0999", "8888", "+24", "0234567", "999999999999999"):
        said = await viewer.logs(phone=typed)
        assert (said["logs"], said["statusCounts"]["total"], said["countsComplete"]) == ([], 0, True)


async def test_a_zero_may_stand_within_a_number(viewer: Reader, hand: Hand) -> None:
    found = await hand.delivered(phone_number="+233500241111")
    assert await viewer.ids(phone="0241") == {found}


async def test_counts_follow_every_filter_but_the_status_itself(viewer: Reader, hand: Hand) -> None:
    """By tallies and row by row, which must agree: at every edge of minute, hour and day."""
    start = NOON.replace(hour=22, minute=58, second=30)
    for minutes in range(0, 180, 7):
        made = start + timedelta(minutes=minutes, microseconds=minutes)
        await hand.delivered(made=made, network="MTN")
        await hand.failed(made=made, code="BUSY" if minutes % 2 else "GONE")
    edges = [start + timedelta(minutes=minutes) for minutes in (0, 1.5, 30, 61.5, 62, 75.2, 170)]
    for since, until in itertools.combinations(edges, 2):
        period = {"from_": since.isoformat(), "to": until.isoformat()}
        for more in ({}, {"network": "MTN"}, {"failure": "BUSY"}, {"status": "failed"}, {"state": "delivered"}):
            said = await viewer.logs(**period, **more)
            params = dict(more) | {"status": ""}
            expected = await hand.connection.fetch(
                "SELECT status, count(*) FROM fulfillment_logs WHERE created_at >= $1 AND created_at < $2"
                " AND ($3::text IS NULL OR network = $3) AND ($4::text IS NULL OR error_code = $4)"
                " AND ($5::text IS NULL OR state = $5) GROUP BY 1",
                since,
                until,
                params.get("network"),
                params.get("failure"),
                params.get("state"),
            )
            counts = {status: number for status, number in said["statusCounts"].items() if number}
            assert counts.pop("total", 0) == sum(counts.values())
            assert counts == dict(expected), (since, until, more)
    by_phone = await viewer.logs(phone="123456")
    assert by_phone["statusCounts"]["total"] == 52
    assert by_phone["countsComplete"]


@pytest.mark.parametrize(
    ("typed", "leads"),
    [("1", False), ("16", False), ("03", False), ("164", True), ("037", True), ("+2", True), ("23324", True)],
)
async def test_a_digit_or_two_lead_to_no_few_numbers(viewer: Reader, typed: str, leads: bool) -> None:  # noqa: FBT001 - a case
    assert phone_part(typed).leads is leads
    assert (await viewer.logs(phone=typed))["statusCounts"]["total"] >= 0


async def test_what_lies_far_apart_in_the_order_of_networks_is_paged_through_too(viewer: Reader, hand: Hand) -> None:
    made = [
        await hand.failed(
            made=NOON + timedelta(seconds=n // 2), network=("MTN", "Telecel")[n % 2], phone_number="+233240000024"
        )
        for n in range(7)
    ]
    rows, more = [], {}
    while not rows or more["cursor"]:
        said = await viewer.logs(sort="network", phone="4000002", failure="BUSY", limit="3", **more)
        rows += said["logs"]
        more = {"cursor": said["next"]}
    assert [row["order_id"] for row in rows] == [*made[::2], *made[1::2]]


@pytest.mark.parametrize("sort", ["created_at", "updated_at", "network"])
@pytest.mark.parametrize("minus", ["", "-"])
async def test_pages_hold_every_order_once_in_every_order(viewer: Reader, hand: Hand, sort: str, minus: str) -> None:
    made = [
        await hand.delivered(
            made=NOON + timedelta(seconds=n // 3),
            network=("MTN", "Telecel")[n % 2],
            phone_number=f"+23324000000{n % 4}",
        )
        for n in range(20)
    ]
    rows, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        more = {"cursor": cursor} if cursor else {}
        said = await viewer.logs(sort=minus + sort, limit="3", **more)
        if pages == 1:  # what comes meanwhile moves nothing
            await hand.delivered(
                made=NOON - timedelta(days=1) if not minus else NOON + timedelta(days=1), network="MTN"
            )
        rows += said["logs"]
        cursor, pages = said["next"], pages + 1
    ids = [row["order_id"] for row in rows]
    assert len(ids) == len(set(ids))
    assert set(made) <= set(ids)
    assert [row[sort] for row in rows] == sorted((row[sort] for row in rows), reverse=bool(minus))


async def test_a_cursor_is_good_for_its_question_alone(viewer: Reader, hand: Hand) -> None:
    for _ in range(3):
        await hand.delivered()
    cursor = (await viewer.logs(limit="1"))["next"]
    assert (await viewer.logs(limit="2", cursor=cursor))["next"] is None
    for other in ({"sort": "created_at"}, {"status": "success"}, {"network": "MTN"}):
        assert (await viewer.get(LOGS, cursor=cursor, **other)).is_problem(400)


async def test_an_etag_spares_the_body(viewer: Reader, hand: Hand) -> None:
    await hand.delivered()
    etag = (await viewer.get(LOGS)).headers["ETag"]
    again = await viewer.get(LOGS, {"If-None-Match": etag})
    assert (again.status, again.content, again.headers["ETag"]) == (304, b"", etag)
    await hand.delivered()
    assert (await viewer.get(LOGS, {"If-None-Match": etag})).status == 200


async def test_every_state_has_its_status() -> None:
    assert {state.value: status for state, status in STATUS.items()} == STATUS_OF


async def test_a_period_by_when_orders_last_changed_has_the_late_and_the_early_ones_too(
    viewer: Reader, hand: Hand
) -> None:
    made = {}
    for hours, latencies_s in ((0, (1, 5 * 3600)), (1, (2, 86_400)), (2, (3, -60)), (9, (4,))):
        for latency_s in latencies_s:
            at = NOON + timedelta(hours=hours)
            made[await hand.delivered(made=at, latency_s=latency_s)] = (at, at + timedelta(seconds=latency_s))
    for sort, since, until in itertools.product(("updated_at", "-updated_at"), (None, 0, 1), (None, 1, 3)):
        period = {
            name: (NOON + timedelta(hours=hours)).isoformat()
            for name, hours in (("from", since), ("to", until))
            if hours is not None
        }
        wanted = sorted(
            (changed, order_id)
            for order_id, (at, changed) in made.items()
            if (since is None or at >= NOON + timedelta(hours=since))
            and (until is None or at < NOON + timedelta(hours=until))
        )
        seen: list[str] = []
        params = {"sort": sort, "limit": "2", **period}
        while params.get("cursor") != "":
            said = await viewer.logs(**params)
            seen += [row["order_id"] for row in said["logs"]]
            params["cursor"] = said["next"] or ""
        assert seen == [order_id for _, order_id in (wanted[::-1] if sort.startswith("-") else wanted)], params
