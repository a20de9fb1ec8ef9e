"""Every error answer, in one shape: RFC 9457 `application/problem+json`, with a stable `code`, never echoing input."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import psycopg
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from psycopg_pool import PoolTimeout
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from domain.errors import DomainError

log = structlog.get_logger(__name__)

_ERRORS_MAX = 20
_QUOTING = {"union_tag_invalid": "Not one of the allowed kinds.", "extra_forbidden": "Unknown field."}
"""Kinds of validation errors whose message or location would repeat what the client sent."""
_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    408: "body_too_slow",
    413: "body_too_large",
    415: "unsupported_media_type",
}


class FieldProblem(BaseModel):
    """One field at fault: dotted path, stable code, a sentence."""

    field: str
    code: str
    message: str


class Problem(BaseModel):
    """The body of every 4xx and 5xx answer."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldProblem] = []


def problem(
    request_id: str,
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An error answer. `type` is `about:blank`: the `code` tells kinds apart."""
    body = Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        request_id=request_id,
        errors=list(errors),
    )
    return JSONResponse(
        body.model_dump(), status_code=status, headers=dict(headers or {}), media_type="application/problem+json"
    )


def request_id_of(request: Request) -> str:
    """The correlation id that the limits middleware gave this request."""
    return str(getattr(request.state, "request_id", ""))


def _of_domain(request: Request, error: DomainError) -> JSONResponse:
    errors = [FieldProblem(field=error.field, code=error.code, message=error.message)] if error.field else []
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    return problem(request_id_of(request), error.status, error.code, error.message, errors=errors, headers=headers)


def _of_validation(request: Request, error: RequestValidationError) -> JSONResponse:
    fields = [_field_problem(each) for each in error.errors()[:_ERRORS_MAX]]
    return problem(
        request_id_of(request), 422, "invalid_request", "One or more fields of the request are invalid.", errors=fields
    )


def _field_problem(error: Mapping[str, Any]) -> FieldProblem:
    kind, place = str(error["type"]), [str(part) for part in error["loc"]]
    if kind == "extra_forbidden":
        place = place[:-1]
    path = ".".join(place[1:] if place[:1] == ["body"] else place) or "body"
    return FieldProblem(field=path[:200], code=kind, message=_QUOTING.get(kind, str(error["msg"])))


def _of_http(request: Request, error: HTTPException) -> JSONResponse:
    phrase = HTTPStatus(error.status_code).phrase
    code = _CODES.get(error.status_code, phrase.lower().replace(" ", "_").replace("-", "_"))
    headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
    return problem(request_id_of(request), error.status_code, code, f"{phrase}.", headers=headers)


def _allowed(request: Request) -> str:
    """Every method of the path. The routing's own answer names only those of the first route it found there."""
    path = request.scope["path"]
    routes = (context.original_route for context in iter_route_contexts(request.app.routes))
    found = {
        method for route in routes if isinstance(route, Route) and route.path_regex.match(path)
        for method in route.methods or ()
    }  # fmt: skip
    return ", ".join(sorted(found))


def _of_outage(request: Request, error: Exception) -> JSONResponse:
    """The database is away. The command may or may not have committed: the same key finds out."""
    log.warning("request.database_unavailable", exc_info=error)
    detail = "The service cannot reach its database. Repeat the request with the same Idempotency-Key."
    return problem(request_id_of(request), 503, "unavailable", detail, headers={"Retry-After": "2"})


def install(app: FastAPI) -> None:
    """Register the handlers. What none of them catches becomes a 500 in `api.limits`."""
    app.add_exception_handler(DomainError, _of_domain)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _of_validation)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _of_http)  # type: ignore[arg-type]
    for outage in (psycopg.OperationalError, PoolTimeout):
        app.add_exception_handler(outage, _of_outage)
