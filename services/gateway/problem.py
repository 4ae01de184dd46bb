"""Errors as RFC 9457 has them, which also carry what the seed's clients read: `success: false, error`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from aiohttp import web

PROBLEM_JSON: Final = "application/problem+json"
_URN: Final = "urn:fulfillment:"


@dataclass(frozen=True, slots=True)
class Kind:
    """`slug` makes the `type`, which clients may rely on."""

    slug: str
    status: int
    title: str

    @property
    def urn(self) -> str:
        return _URN + self.slug


BAD_HTTP: Final = Kind("bad-http", 400, "This is not HTTP as the gateway speaks it")
INVALID_REQUEST: Final = Kind("invalid-request", 400, "The request cannot be acted on as it is")
DELIVERY_FAILED: Final = Kind("delivery-failed", 400, "The bundle was not delivered")
UNAUTHENTICATED: Final = Kind("unauthenticated", 401, "An API key or a session is needed")
LOGIN_FAILED: Final = Kind("login-failed", 401, "Name or password are wrong")
FORBIDDEN: Final = Kind("forbidden", 403, "This caller may not do that")
FOREIGN: Final = Kind("foreign-request", 403, "The request does not come from the gateway's own pages")
WRONG_PASSWORD: Final = Kind("wrong-password", 403, "The current password is wrong")
NOT_FOUND: Final = Kind("not-found", 404, "There is nothing here")
UNKNOWN_KEY: Final = Kind("unknown-key", 404, "No such key to revoke")
UNKNOWN_USER: Final = Kind("unknown-user", 404, "No such user")
UNKNOWN_ORDER: Final = Kind("unknown-order", 404, "No such order")
UNKNOWN_LETTER: Final = Kind("unknown-dead-letter", 404, "No such dead letter")
UNKNOWN_JOB: Final = Kind("unknown-job", 404, "No such bulk retry")
UNKNOWN_PROVIDER: Final = Kind("unknown-provider", 404, "No such provider")
WRONG_METHOD: Final = Kind("wrong-method", 405, "This path does not know the method")
TOO_SLOW: Final = Kind("request-timeout", 408, "The body took too long to arrive")
UNDER_WAY: Final = Kind("under-way", 409, "The first request with this Idempotency-Key is still under way")
CONFLICT: Final = Kind("conflict", 409, "The order is not in a state for that")
NOT_REPLAYED: Final = Kind("not-replayed", 409, "None of the dead letters was sent back")
NOTHING_TO_RETRY: Final = Kind("nothing-to-retry", 409, "None of the orders can be retried")
JOB_STATE: Final = Kind("job-state", 409, "The bulk retry is not in a state for that")
TOO_MANY_JOBS: Final = Kind("too-many-jobs", 409, "Too many bulk retries are open")
PROVIDER_CONFLICT: Final = Kind("provider-conflict", 409, "The provider is not in a state for that")
NAME_TAKEN: Final = Kind("name-taken", 409, "There is such a user already")
OWN_ACCESS: Final = Kind("own-access", 409, "Nobody takes away their own access")
TOO_LARGE: Final = Kind("too-large", 413, "The body is too large")
WRONG_TYPE: Final = Kind("wrong-content-type", 415, "The body must be JSON")
KEY_REUSED: Final = Kind("idempotency-key-reused", 422, "The Idempotency-Key stands for another purchase")
HTTP_ERROR: Final = Kind("http-error", 400, "The request was refused")
"""With whatever status aiohttp refuses it."""
WRONG_HOST: Final = Kind("wrong-host", 421, "The gateway does not go by that name")
TOO_MANY: Final = Kind("too-many-requests", 429, "More requests than this caller may make")
TOO_MANY_GUESSES: Final = Kind("too-many-guesses", 429, "Too many credentials from this address were wrong")
TOO_MANY_LOGINS: Final = Kind("too-many-logins", 429, "Too many logins failed")
INTERNAL: Final = Kind("internal", 500, "The gateway failed")
UNAVAILABLE: Final = Kind("unavailable", 503, "Something that the gateway needs is away")

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-cache",
    "Server": "gateway",
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
"""Of every answer that does not say otherwise."""
HTTPS_ALONE: Final = {"Strict-Transport-Security": "max-age=31536000"}
"""Further ones outside development."""


class Problem(Exception):  # noqa: N818 - the RFC's own word
    """An answer that is an error. `detail` says what to mend, and never repeats a secret."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = headers or {}
        self.members = members or {}

    def said(self) -> dict[str, Any]:
        return {
            "type": self.kind.urn,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "success": False,
            "error": self.detail,
            **self.members,
        }

    def response(self) -> web.Response:
        headers = {**self.headers, "Content-Type": PROBLEM_JSON}
        response = web.Response(status=self.kind.status, body=orjson.dumps(self.said()), headers=headers)
        if self.kind is TOO_SLOW:  # the rest of the body would be taken for another request
            response.force_close()
        return response


def from_http_error(error: web.HTTPException) -> Problem:
    """What aiohttp itself refuses."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Problem(WRONG_METHOD, f"use one of: {allowed}", headers={"Allow": allowed})
    if isinstance(error, web.HTTPNotFound):
        return Problem(NOT_FOUND, "no such path")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return too_large()
    return Problem(replace(HTTP_ERROR, status=error.status), error.reason)


def too_large(max_bytes: int = 64 * 1024) -> Problem:
    return Problem(TOO_LARGE, f"the body must be at most {max_bytes // 1024} KiB")


def unavailable(detail: str, retry_after_s: int = 1) -> Problem:
    return Problem(UNAVAILABLE, detail, headers={"Retry-After": str(retry_after_s)})
