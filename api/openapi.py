"""The OpenAPI document: FastAPI's, completed with what it cannot see.

Every refusal an operation can answer, as the problem it is; the `Idempotency-Key` header, which the command path reads;
the raw bodies of webhooks; and links from what one answer returns to what can be asked next. The document is held to
the running API by `tests/hostile`.
"""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from api.errors import Problem

_PROBLEM: Final = "Problem"
_ANY: Final = (400, 408, 413, 415, 422, 500, 503)
"""What any operation may answer: the layers before it refuse what they cannot read, and the database may be away."""
_SECURED: Final = (401, 403)
_KEY_OPTIONAL: Final = frozenset({"sign_up"})
_CREDENTIALS: Final = frozenset({"log_in", "receive_webhook", "receive_for_default_tenant"})
"""Operations without a token that may still answer 401: to a wrong password or signature."""
_WITHOUT_THINGS: Final = frozenset({"healthz", "readyz"})

_PAYMENT: Final = {"read_payment": "payment_id", "resolve_unknown": "payment_id"}
_INVESTMENT: Final = {"read_investment": "investment_id", "cancel_investment": "investment_id"}
_CAMPAIGN: Final = {
    name: "campaign_id"
    for name in (
        "read_campaign", "edit_campaign", "submit_campaign", "verify_campaign", "invest_in_campaign", "list_settlements",
        "pause_campaign", "resume_campaign", "move_deadline", "cancel_campaign", "post_update", "list_updates",
    )
}  # fmt: skip
_LINKS: Final[dict[str, dict[str, dict[str, str]]]] = {
    "create_campaign": {"/data/id": _CAMPAIGN},
    "list_campaigns": {"/data/0/id": _CAMPAIGN},
    "invest_in_campaign": {"/data/id": _INVESTMENT, "/data/payment_id": _PAYMENT},
    "list_investments": {"/data/0/id": _INVESTMENT, "/data/0/payment_id": _PAYMENT},
    "deposit": {"/data/id": _PAYMENT},
    "list_payments": {"/data/0/id": _PAYMENT},
    "list_accounts": {"/data/0/code": {"read_balance": "code", "read_entries": "code"}},
    "list_settlements": {"/data/0/id": {"list_lines": "settlement_id", "retry_failed_lines": "settlement_id"}},
}
"""Operation → place in its answer → the operations that take it, and as which path parameter."""


def operation_id(route: APIRoute) -> str:
    """An operation is named as its function."""
    return route.name


def install(app: FastAPI) -> None:
    """Make `app.openapi()` give the completed document, built once."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    openapi_version=app.openapi_version,
                    description=app.description,
                    routes=app.routes,
                )
            )
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _complete(found: dict[str, Any]) -> dict[str, Any]:
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs", {}))
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas[_PROBLEM] = problem
    content = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{_PROBLEM}"}}}
    components["responses"] = {_PROBLEM: {"description": "Refused; `code` says why", "content": content}}
    for operations in found["paths"].values():
        for verb, operation in operations.items():
            _refusals(verb, operation)
            _key(verb, operation)
            _webhook(operation)
            _links(operation)
    return found


def _refusals(verb: str, operation: dict[str, Any]) -> None:
    name, secured = operation["operationId"], "security" in operation
    statuses = {*_ANY}
    if secured:
        statuses |= {*_SECURED}
    if name in _CREDENTIALS:
        statuses.add(401)
    if name not in _WITHOUT_THINGS:
        statuses.add(404)
        if verb != "get":
            statuses.add(409)
    answers = operation["responses"]
    answers.pop("422", None)  # FastAPI's own shape of it
    for status in sorted(statuses):
        answers.setdefault(str(status), {"$ref": f"#/components/responses/{_PROBLEM}"})


def _key(verb: str, operation: dict[str, Any]) -> None:
    required = "security" in operation
    if verb != "post" or not (required or operation["operationId"] in _KEY_OPTIONAL):
        return
    operation.setdefault("parameters", []).append(
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": required,
            "description": "A repeat under the same key answers as the first request did",
            "schema": {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$", "minLength": 1, "maxLength": 255},
        }
    )


def _webhook(operation: dict[str, Any]) -> None:
    if operation.get("tags") != ["webhooks"]:
        return
    operation["requestBody"] = {
        "required": True,
        "description": "The event, byte for byte as the provider signed it",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
    for name in ("Stripe-Signature", "x-paystack-signature"):
        operation.setdefault("parameters", []).append(
            {"name": name, "in": "header", "required": False, "schema": {"type": "string"}}
        )


def _links(operation: dict[str, Any]) -> None:
    found = {
        f"{target} by {place}": {
            "operationId": target,
            "parameters": {f"path.{parameter}": f"$response.body#{place}"},
        }
        for place, targets in _LINKS.get(operation["operationId"], {}).items()
        for target, parameter in targets.items()
    }
    if found:
        success = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
        success["links"] = {name.replace(" ", "_").replace("/", "."): link for name, link in found.items()}
