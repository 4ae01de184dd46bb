"""What tests and people ask of the sandbox itself: the ledger, the faults in force, the calls that are held."""

from collections.abc import Awaitable, Callable
from html import escape
from string import Template
from typing import Any

import orjson
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from services.sandbox.faults import FAULTS, Plan, magic_number
from services.sandbox.ledger import Ledger
from services.sandbox.provider import SandboxProvider

_MAX_WAIT_S = 120.0
_SHOWN = 200
_OBJECT = TypeAdapter(dict[str, Any])


class Control:
    def __init__(self, provider: SandboxProvider, plan: Plan) -> None:
        self._provider = provider
        self._default_plan = plan

        self._routes: dict[tuple[str, str], Callable[[web.BaseRequest], Awaitable[web.Response]]] = {
            ("GET", "/"): self._page,
            ("GET", "/livez"): self._alive,
            ("GET", "/readyz"): self._alive,
            ("GET", "/ledger"): self._ledger,
            ("GET", "/calls"): self._calls,
            ("GET", "/faults"): self._faults,
            ("PUT", "/faults"): self._replace,
            ("PATCH", "/faults"): self._change,
            ("DELETE", "/faults"): self._reset,
            ("POST", "/release"): self._release,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        route = self._routes.get((request.method, request.rel_url.path))
        return await route(request) if route else _json({"error": "no such path or method"}, 404)

    async def _page(self, _: web.BaseRequest) -> web.Response:
        return _ledger_page(self._provider.ledger)

    async def _alive(self, _: web.BaseRequest) -> web.Response:
        return _json({"status": "ok"})

    async def _ledger(self, _: web.BaseRequest) -> web.Response:
        return _json(self._provider.ledger.view())

    async def _release(self, request: web.BaseRequest) -> web.Response:
        return _json({"released": self._provider.gates.release(request.rel_url.query.get("reference"))})

    async def _faults(self, _: web.BaseRequest) -> web.Response:
        return self._in_force()

    async def _replace(self, request: web.BaseRequest) -> web.Response:
        return self._enforce({}, await request.read())

    async def _change(self, request: web.BaseRequest) -> web.Response:
        # The balance is an order, not a state: it is not given again with every change.
        return self._enforce(self._provider.plan.model_dump(exclude={"balance_mb"}), await request.read())

    async def _reset(self, _: web.BaseRequest) -> web.Response:
        self._provider.plan = self._default_plan
        return self._in_force()

    def _in_force(self) -> web.Response:
        numbers = {name: magic_number(name) for name in FAULTS}
        return _json({**self._provider.plan.model_dump(mode="json"), "magic_numbers": numbers})

    def _enforce(self, base: dict[str, object], body: bytes) -> web.Response:
        defaults = self._default_plan.model_dump(include={"latency_s", "hang_s", "seed"})
        try:
            plan = Plan.model_validate({**defaults, **base, **_OBJECT.validate_json(body)})
        except ValidationError as error:
            return _json({"error": error.errors(include_url=False, include_context=False, include_input=False)}, 422)
        if plan.balance_mb is not None:
            self._provider.ledger.balance_mb = plan.balance_mb
        self._provider.plan = plan
        return self._in_force()

    async def _calls(self, request: web.BaseRequest) -> web.Response:
        """Counts; with `kind` and `at_least`, only once that count is reached (408 when it was not in time)."""
        query, gates = request.rel_url.query, self._provider.gates
        reference, kind = query.get("reference"), query.get("kind", "sends")

        def counts() -> dict[str, int]:
            return gates.counts() if reference is None else gates.counts_of(reference)

        try:
            at_least = int(query.get("at_least", "0"))
            timeout_s = min(float(query.get("timeout_s", "30")), _MAX_WAIT_S)
        except ValueError:
            return _json({"error": "at_least and timeout_s are numbers"}, 400)
        if kind not in counts():
            return _json({"error": f"kind is one of {', '.join(counts())}"}, 400)
        reached = await gates.reach(lambda: counts()[kind] >= at_least, timeout_s)
        return _json(counts(), 200 if reached else 408)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


_PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sandbox ledger</title><meta http-equiv="refresh" content="5">
<style>
:root { color-scheme: light dark } body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem }
table { border-collapse: collapse } th, td { text-align: left; padding: .2rem .8rem; border-bottom: 1px solid #8884 }
.twice { color: #c00; font-weight: bold }
</style>
<h1>Sandbox ledger</h1>
<p>$deliveries delivered · $sends sends · $queries status queries · $available_mb MB left · newest $shown of
$references references, also as <a href="/ledger">JSON</a></p>
<table><thead><tr><th>Reference<th>Phone<th>MB<th>Status<th>Code<th>Sends<th>Queries<th>Delivered</thead>
<tbody>
$rows
</tbody></table></html>
""")


def _ledger_page(ledger: Ledger) -> web.Response:
    newest = list(ledger.records.items())[: -_SHOWN - 1 : -1]
    rows = "\n".join(
        "<tr>"
        + "".join(
            f"<td>{escape(str(cell))}"
            for cell in (
                reference,
                record.phone,
                record.size_mb,
                record.status or "not taken",
                record.code,
                record.sends,
                record.queries,
            )
        )
        + f'<td class="{"twice" if record.deliveries > 1 else "once"}">{record.deliveries}'
        for reference, record in newest
    )
    page = _PAGE.substitute(
        deliveries=ledger.delivered,
        sends=ledger.sends,
        queries=ledger.queries,
        available_mb=ledger.balance_mb - ledger.reserved_mb,
        shown=len(newest),
        references=len(ledger.records),
        rows=rows,
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return web.Response(text=page, content_type="text/html", headers={"Content-Security-Policy": policy})
