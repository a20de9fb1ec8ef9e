"""Mass assignment: every column of the database as a field of every body is refused, and changes nothing (E10)."""

import json
from typing import Any

from pydantic import BaseModel, ValidationError

from api.envelope import StrictModel
from tests.api.test_policy import routes
from tests.fixtures.evil import objects, resolve
from tests.fixtures.hostile import Target
from tests.fixtures.requests import bodies, filled, headers, with_body

VALUES: tuple[Any, ...] = ("x", 1, True, None)
TEMPTING = (
    "tenant_id", "mode", "id", "role", "status", "owner_id", "investor_id", "payer_id", "password_hash", "created_at",
    "captured_minor", "verified_at",
)  # fmt: skip


def columns(served: Target) -> list[str]:
    rows = served.sql("select distinct column_name from information_schema.columns where table_schema = 'public'")
    return sorted(str(row[0]) for row in rows)


def body_models() -> list[type[BaseModel]]:
    """What the routes of our own contract read their bodies into; the codec's, which write nothing, is Temporal's."""
    ours = [route for route in routes() if route.include_in_schema]
    found = [route.body_field.field_info.annotation for route in ours if route.body_field is not None]
    return [model for model in found if isinstance(model, type) and issubclass(model, BaseModel)]


def test_no_model_of_a_body_takes_a_column_it_does_not_name(served: Target) -> None:
    """Every column on every body and on every object inside one."""
    waiting, models = body_models(), set[type[BaseModel]]()
    while waiting:
        model = waiting.pop()
        if model not in models:
            models.add(model)
            parts = [part for field in model.model_fields.values() for part in _classes(field.annotation)]
            waiting.extend(part for part in parts if issubclass(part, BaseModel))
    assert len(models) >= 9 and all(issubclass(model, StrictModel) for model in models)
    names, taken, count = columns(served), [], 0
    assert len(names) >= 100
    for model in models:
        for name in names:
            if name in model.model_fields:
                continue
            for value in VALUES:
                count += 1
                try:
                    model.model_validate({name: value})
                except ValidationError as error:
                    if not any(each["type"] == "extra_forbidden" for each in error.errors()):
                        taken.append((model.__name__, name))
                else:
                    taken.append((model.__name__, name))
    print(f"mass assignment: {count} additions")
    assert taken == []


def _classes(annotation: Any) -> list[type]:
    arguments = getattr(annotation, "__args__", ())
    return [annotation] if isinstance(annotation, type) else [each for part in arguments for each in _classes(part)]


async def test_over_http_a_column_too_many_is_422_and_changes_nothing(served: Target) -> None:
    document = served.app.openapi()
    tables = ("users", "campaigns", "investments", "payments", "test_clocks", "idempotency_keys", "audit_log")
    before = {table: served.count(table) for table in tables}
    for operation in with_body(document):
        for place in objects(operation.schema, document):
            named = operation.schema
            for name in place:
                named = resolve(named, document)["properties"][name]
            known = resolve(named, document)["properties"]
            for column in (each for each in TEMPTING if each not in known):
                body = bodies()[operation.name]
                inner = body
                for name in place:
                    inner[name] = inner.get(name) or {"amount": 1, "currency": "NGN"}
                    inner = inner[name]
                inner[column] = "x"
                answer = await served.http.request(
                    operation.verb,
                    filled(served, operation.path),
                    content=json.dumps(body),
                    headers=headers(served, operation),
                )
                said = answer.json()
                assert (answer.status_code, said["code"]) == (422, "invalid_request"), (operation.name, column, said)
                assert [each["code"] for each in said["errors"]] == ["extra_forbidden"], (operation.name, column, said)
    assert {table: served.count(table) for table in tables} == before
