"""Dead letters go back to where they came from, as they were, once."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from schemas.poison import CUT_HEADER, MAX_RECORD_BYTES, REPLAY_HEADER, PoisonKind
from schemas.topics import FULFILLMENT_COMMANDS, ORDERS_EVENTS
from services.gateway.dead_letters.replay import PER_S
from services.gateway.server import Gateway
from services.gateway.writer import NotWrittenError
from tests.gateway.conftest import Client, Log, View
from tests.gateway.dead_letters.conftest import REASON, Desk, Staff, binary, order, retry

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def replayable(desk: Desk, **said: Any) -> tuple[str, str]:
    """A letter, and the order that it is about."""
    made = order(**said)
    value, headers = binary(made)
    return await desk.letter(value, key=made.order_id.encode(), headers=headers), made.order_id


def outcomes(answer: Any) -> list[str]:
    return [item["outcome"] for item in answer.json["items"]]


async def test_key_value_and_headers_go_back_as_they_were(desk: Desk, operator: Staff, log: Log, view: View) -> None:
    made = order()
    value, headers = binary(made)
    strange = (*headers, ("odd", b"\xff\0"), ("empty", None), ("twice", b"1"), ("twice", b"2"))
    earlier = (*strange, (REPLAY_HEADER, b"3-4"))
    letter_id = await desk.letter(value, key=made.order_id.encode(), headers=earlier)
    answer = await operator.replay(ids=[letter_id])
    assert answer.status == 202, answer.content
    assert answer.json["items"] == [{"id": letter_id, "outcome": "replayed", "why": None}]
    (record,) = await log.orders(made.order_id)
    assert (record.value, record.partition) == (value, 1)
    assert record.headers == (*strange, (REPLAY_HEADER, letter_id.encode()))
    (noted,) = await view.connection.fetch(
        "SELECT target, detail FROM access.audit WHERE action = 'replay' AND target = $1 ORDER BY id DESC LIMIT 1",
        letter_id,
    )
    assert orjson.loads(noted["detail"]) == {"reason": REASON}


async def test_one_that_went_back_goes_again_only_when_told_so(desk: Desk, operator: Staff, log: Log) -> None:
    letter_id, order_id = await replayable(desk)
    assert (await operator.replay(ids=[letter_id])).status == 202
    again = await operator.replay(ids=[letter_id])
    assert again.is_problem(409)
    assert outcomes(again) == ["already_replayed"]
    assert "sent it back at" in again.json["detail"]
    assert len(await log.orders(order_id)) == 1
    letter = (await operator.get(f"/{letter_id}")).json["letter"]
    assert (letter["replayed"]["times"], letter["replayed"]["reason"]) == (1, REASON)
    assert (await operator.get(replayed="true")).json["letters"][0]["id"] == letter_id
    assert (await operator.replay(ids=[letter_id], again=True)).status == 202
    assert len(await log.orders(order_id)) == 2
    assert (await operator.get(f"/{letter_id}")).json["letter"]["replayed"]["times"] == 2


async def test_of_many_at_once_one_sends_it_back(desk: Desk, operator: Staff, log: Log) -> None:
    letter_id, order_id = await replayable(desk)
    answers = await asyncio.gather(*(operator.replay(ids=[letter_id]) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [202] + [409] * 7
    assert {outcomes(answer)[0] for answer in answers} <= {"replayed", "under_way", "already_replayed"}
    assert len(await log.orders(order_id)) == 1


async def test_a_command_waits_for_its_order(desk: Desk, operator: Staff, view: View, log: Log) -> None:
    order_id = str(uuid.uuid4())
    value, headers = binary(retry(order_id))
    letter_id = await desk.letter(
        value, PoisonKind.UNKNOWN_ORDER, key=order_id.encode(), headers=headers, topic=FULFILLMENT_COMMANDS
    )
    assert outcomes(await operator.replay(ids=[letter_id])) == ["not_yet"]
    await view.add(order_id)
    assert outcomes(await operator.replay(ids=[letter_id])) == ["replayed"]
    assert len(await log.commands(order_id)) == 1


async def test_what_can_never_succeed_says_so(desk: Desk, operator: Staff, view: View, silence: None) -> None:
    known = await view.add(phone_number="+233244123456", network="MTN")
    other = await view.add(phone_number="+233244000000", network="MTN")
    value, headers = binary(order())
    old, ahead = datetime.now(UTC) - timedelta(days=8), datetime.now(UTC) + timedelta(hours=1)
    expected = {
        await desk.letter(b"{", PoisonKind.NOT_JSON): ("impossible", "not_json"),
        await desk.letter(None, PoisonKind.NO_VALUE): ("impossible", "no_value"),
        await desk.letter(value, headers=(*headers, (CUT_HEADER, b"3000000"))): ("impossible", "kept whole"),
        await desk.letter(b"x" * (MAX_RECORD_BYTES + 1)): ("impossible", "bytes"),
        await desk.letter(value, PoisonKind.KEY, headers=headers): ("impossible", "key"),
        await desk.letter(value, topic="fulfillment.retry.5m", headers=headers): ("impossible", ORDERS_EVENTS),
        await desk.letter(value, partition=99, headers=headers): ("impossible", "partition"),
        (await replayable(desk, created_at=old))[0]: ("impossible", "DEDUPE_WINDOW"),
        (await replayable(desk, created_at=ahead))[0]: ("not_yet", "dated"),
        (await replayable(desk, size_mb=100_001))[0]: ("impossible", "MAX_SIZE_MB"),
        (await replayable(desk, order_id=known))[0]: ("needless", "there already"),
        (await replayable(desk, order_id=other))[0]: ("impossible", "another phone"),
        "0-999": ("unknown", "no such"),
    }  # fmt: skip
    answer = await operator.replay(ids=list(expected), again=True)
    assert answer.is_problem(409)
    said = {item["id"]: item for item in answer.json["items"]}
    for letter_id, (outcome, why) in expected.items():
        assert said[letter_id]["outcome"] == outcome, said[letter_id]
        assert why in said[letter_id]["why"]
    # A dry run says the same.
    dry = await operator.replay(ids=list(expected), dryRun=True)
    assert (dry.status, dry.json["items"]) == (200, answer.json["items"])


async def test_an_order_that_was_rejected_may_go_back(desk: Desk, operator: Staff, view: View, log: Log) -> None:
    order_id = await view.add(state="rejected", status="failed", sequence=0)
    letter_id, _ = await replayable(desk, order_id=order_id)
    assert outcomes(await operator.replay(ids=[letter_id])) == ["replayed"]
    assert len(await log.orders(order_id)) == 1


async def test_a_filter_is_paced_and_goes_on_where_it_was(desk: Desk, operator: Staff, log: Log) -> None:
    made = [await replayable(desk) for _ in range(60)]
    bad = await desk.letter(b"?", PoisonKind.NOT_JSON)
    said = {"filter": {"error": "internal", "topic": ORDERS_EVENTS}}
    dry = await operator.replay(**said, dryRun=True)
    assert (dry.status, dry.json["counts"]) == (200, {"replayable": 60})
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    first = await operator.replay(**said, limit=40)
    assert loop.time() - began_s >= 39 / PER_S
    assert [item["id"] for item in first.json["items"]] == [letter_id for letter_id, _ in made[:40]]
    second = await operator.replay(**said, cursor=first.json["next"])
    assert (second.json["counts"], second.json["next"]) == ({"replayed": 20}, None)
    for _, order_id in made[::20]:
        assert len(await log.orders(order_id)) == 1
    # Nothing is left to which the filter leads.
    assert (await operator.replay(**said)).is_problem(404)
    assert outcomes(await operator.replay(filter={}, dryRun=True)) == ["impossible"]
    assert bad in (await operator.replay(filter={}, dryRun=True)).json["items"][0]["id"]


BAD: tuple[dict[str, Any], ...] = (
    {},
    {"ids": []},
    {"ids": ["0-0"], "filter": {}},
    {"ids": ["0"]},
    {"ids": ["0-0" for _ in range(501)]},
    {"ids": ["-1-0"]},
    {"ids": [["0-0"]]},
    {"ids": "0-0"},
    {"ids": ["0-0"], "reason": ""},
    {"ids": ["0-0"], "reason": "  x "},
    {"ids": ["0-0"], "reason": "x" * 10_240},
    {"ids": ["0-0"], "reason": "nul\0"},
    {"ids": ["0-0"], "again": "yes"},
    {"filter": {"status": "failed"}},
    {"filter": {"error": 1}},
    {"filter": {}, "cursor": "x"},
    {"filter": {}, "limit": 501},
    {"filter": {"from": "2026-02-01", "to": "2026-01-01"}},
)


async def test_what_is_not_said_rightly_changes_nothing(desk: Desk, operator: Staff, silence: None) -> None:
    await replayable(desk)
    for said in BAD:
        assert (await operator.replay(**said)).is_problem(400), said


async def test_a_million_ids_are_too_many(desk: Desk, client: Client, operator: Staff, silence: None) -> None:
    answer = await operator.replay(ids=[f"0-{n}" for n in range(20_000)])
    assert answer.is_problem(413)


async def test_who_only_looks_sends_nothing_back(desk: Desk, viewer: Staff, silence: None) -> None:
    letter_id, _ = await replayable(desk)
    assert (await viewer.replay(ids=[letter_id])).is_problem(403)


async def test_letters_that_nobody_knows(desk: Desk, operator: Staff, silence: None) -> None:
    assert (await operator.replay(ids=["0-998", "0-999"])).is_problem(404)
    assert (await operator.replay(filter={"error": "conflict"})).is_problem(404)


@pytest.mark.parametrize(("maybe", "outcome"), [(False, "not_written"), (True, "perhaps")])
async def test_without_kafka_nothing_counts_as_sent_back(
    desk: Desk,
    operator: Staff,
    gateway: Gateway,
    view: View,
    monkeypatch: pytest.MonkeyPatch,
    *,
    maybe: bool,
    outcome: str,
) -> None:
    sent, unsent, behind = [(await replayable(desk))[0] for _ in range(3)]
    write = gateway.writer.append_as_it_is

    async def away(topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Any) -> None:
        if (REPLAY_HEADER, unsent.encode()) in headers:
            raise NotWrittenError(maybe_written=maybe)
        await write(topic, partition, key, value, headers)

    with monkeypatch.context() as patched:
        patched.setattr(gateway.writer, "append_as_it_is", away)
        answer = await operator.replay(ids=[sent, unsent, behind])
    assert answer.is_problem(503)
    assert outcomes(answer) == ["replayed", outcome]
    assert (await operator.get(f"/{unsent}")).json["letter"]["replayed"] is None
    # Where Kafka may have it, it is left alone for as long as it may still come.
    again = await operator.replay(ids=[sent, unsent, behind])
    assert outcomes(again) == ["already_replayed", "under_way" if maybe else "replayed", "replayed"]


async def test_a_claim_of_one_that_died_is_taken_over(desk: Desk, operator: Staff, view: View) -> None:
    letter_id, _ = await replayable(desk)
    at = await view.connection.fetchval("SELECT at FROM dead_letters")
    await view.connection.execute(
        'INSERT INTO access.replays (partition, "offset", at, actor, reason, claimed_at)'
        " VALUES (0, 0, $1, 'user:kofi', 'died', now())",
        at,
    )
    waits = await operator.replay(ids=[letter_id])
    assert waits.is_problem(409)
    assert "user:kofi" in waits.json["detail"]
    await view.connection.execute("UPDATE access.replays SET claimed_at = now() - interval '31 s'")
    assert (await operator.replay(ids=[letter_id])).status == 202
