"""The routes as an aiohttp application: access, errors and measurements around each of them."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import perf_counter
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from services.gateway import metrics
from services.gateway.access import Access
from services.gateway.body import MAX_BODY_BYTES
from services.gateway.problem import BAD_HTTP, HEADERS, INTERNAL, TOO_MANY, Problem, from_http_error
from services.gateway.rates import Quota
from services.gateway.routes import Route

# A stranger's method must not become a label.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# aiohttp takes 128 lines of 8 KiB.
_MAX_HEADERS_BYTES: Final = 32 * 1024
_FAILED: Final = "the gateway failed; the failure is logged"

log = structlog.get_logger()


QUOTA: Final = web.RequestKey("quota", Quota)


def application(
    routes: Iterable[Route],
    access: Access,
    headers: Mapping[str, str] = HEADERS,
    middlewares: Iterable[Middleware] = (),
) -> web.Application:
    """`middlewares` see each Problem before it becomes JSON."""

    async def complete(request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Also of an answer that is streamed, whose head leaves before its handler returns."""
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        # aiohttp has put its own name and version there by now.
        response.headers["Server"] = headers["Server"]
        quota = request.get(QUOTA)
        if quota is not None:
            response.headers.update(quota.headers)

    @web.middleware
    async def named_rightly(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if sum(len(name) + len(value) for name, value in request.raw_headers) > _MAX_HEADERS_BYTES:
            raise Problem(BAD_HTTP, f"the headers must be at most {_MAX_HEADERS_BYTES // 1024} KiB in all")
        access.check_host(request)
        return await handler(request)

    app = web.Application(middlewares=[_around, *middlewares, _faults, named_rightly], client_max_size=MAX_BODY_BYTES)
    app.on_response_prepare.append(complete)
    for route in routes:
        guarded = _guarded(route, access)
        if route.method == "GET":
            app.router.add_get(route.path, guarded)
        else:
            app.router.add_route(route.method, route.path, guarded)
    return app


def _guarded(route: Route, access: Access) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def guarded(request: web.Request) -> web.StreamResponse:
        caller = await access.caller(request, route.permission)
        quota = access.quota(caller)
        if quota is not None:
            request[QUOTA] = quota
            if not quota.allowed:
                raise Problem(TOO_MANY, "slow down; the RateLimit headers say what is left, and until when")
        return await route.handler(request, caller)

    return guarded


@web.middleware
async def _around(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    started = perf_counter()
    response: web.StreamResponse
    try:
        response = await handler(request)
    except Problem as problem:
        response = problem.response()
    except web.HTTPException as error:
        response = from_http_error(error).response()
    except Exception:  # of what puts errors into words
        log.exception("request_failed", method=request.method, path=request.path)
        response = Problem(INTERNAL, _FAILED).response()
    _measure(request, response.status, perf_counter() - started)
    return response


@web.middleware
async def _faults(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """As Problems, for those around to put into words."""
    try:
        return await handler(request)
    except (Problem, web.HTTPException):
        raise
    except web.RequestPayloadError as error:
        log.info("body_broken_off", error=str(error))
        raise Problem(BAD_HTTP, "the body could not be read to its end") from error
    except Exception as error:
        log.exception("request_failed", method=request.method, path=request.path)
        raise Problem(INTERNAL, _FAILED) from error


def _measure(request: web.Request, status: int, duration_s: float) -> None:
    resource = request.match_info.route.resource
    route = "none" if resource is None else resource.canonical
    method = request.method if request.method in _METHODS else "other"
    metrics.requests_total.labels(route, method, status).inc()
    metrics.request_duration_seconds.labels(route).observe(duration_s)
