"""The evil list on every string and number of every body, and on every parameter of every path (RELIABILITY F1, F3)."""

import asyncio
import json
from collections.abc import Coroutine, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.fixtures.evil import CANARY, MALFORMED, NUL, TEXTS, every_value, leaves, put
from tests.fixtures.hostile import Target
from tests.fixtures.requests import bodies, filled, headers, operations, with_body

TABLES = {
    "users": "sign_up", "campaigns": "create_campaign", "investments": "invest_in_campaign", "payments": "",
    "test_clocks": "make_clock",
}  # fmt: skip
Answer = tuple[str, str, httpx.Response]
IN_PATHS = {name: quote(text[:2000], safe="") for name, text in TEXTS.items() if text.strip()} | {
    "U+0000": "%00", "bad UTF-8": "%c3%28", "a surrogate": "%ed%a0%80", "2^63": str(2**63), "a slash": "%2f..%2f", "%": "%",
    "half an escape": "%e2%82", "twice escaped": "%2500", "a semicolon": ";a=b", "overlong": "%c0%af",
}  # fmt: skip


async def several(calls: Sequence[Coroutine[Any, Any, Answer]]) -> list[Answer]:
    """The answers, eight requests at a time."""
    turns = asyncio.Semaphore(8)

    async def one(call: Coroutine[Any, Any, Answer]) -> Answer:
        async with turns:
            return await call

    return await asyncio.gather(*(one(call) for call in calls))


def faults(answers: list[Answer]) -> list[str]:
    """Every answer that is no success and no proper problem, or that repeats what it was sent."""
    found = []
    for what, value, answer in answers:
        if answer.status_code < 400:
            continue
        kind = answer.headers.get("content-type")
        proper = kind == "application/problem+json" and answer.json()["status"] == answer.status_code
        if answer.status_code >= 500 or not proper or CANARY in answer.text:
            found.append(f"{what} = {value}: {answer.status_code} {answer.text[:200]}")
    return found


@pytest.mark.timeout(900)
async def test_every_field_of_every_body(served: Target) -> None:
    document = served.app.openapi()

    async def send(operation: Any, place: tuple[str, ...], name: str, raw: bytes) -> Answer:
        answer = await served.http.request(
            operation.verb,
            filled(served, operation.path),
            content=put(bodies()[operation.name], place, raw),
            headers=headers(served, operation),
        )
        return f"{operation.name} {'.'.join(place)}", name, answer

    fields = [(each, place) for each in with_body(document) for place in leaves(each.schema, document)]
    assert {each.name for each, _ in fields} == set(bodies()) and len(fields) >= 38
    before = {table: served.count(table) for table in TABLES}
    answers = await several([send(*field, name, raw) for field in fields for name, raw in every_value()])
    print(f"the evil list: {len(answers)} bodies for {len(fields)} fields")
    assert faults(answers) == []
    for what, name, answer in answers:
        if name in MALFORMED:
            assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json"), (what, name, answer.text)
        elif name in NUL:
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_text"), (what, name, answer.text)
    accepted = [what.partition(" ")[0] for what, _, answer in answers if answer.status_code < 300]
    for table, operation in TABLES.items():
        made = (
            accepted.count(operation) if operation else accepted.count("invest_in_campaign") + accepted.count("deposit")
        )
        assert served.count(table) - before[table] == made, f"what is refused leaves nothing in {table}"


@pytest.mark.timeout(900)
async def test_every_parameter_of_every_operation(served: Target) -> None:
    async def send(operation: Any, parameter: str, path: str, name: str) -> Answer:
        body = bodies().get(operation.name)
        content = None if body is None else json.dumps(body).encode()
        answer = await served.http.request(operation.verb, path, content=content, headers=headers(served, operation))
        return f"{operation.name} {parameter}", name, answer

    calls = []
    for operation in operations(served.app.openapi()):
        path = filled(served, operation.path)
        for parameter in operation.parameters:
            for name, value in IN_PATHS.items():
                if parameter["in"] == "path":
                    spoilt = filled(served, operation.path, **{parameter["name"]: value})
                elif parameter["in"] == "query":
                    spoilt = f"{path}?{parameter['name']}={value}"
                else:
                    continue
                calls.append(send(operation, parameter["name"], spoilt, name))
    answers = await several(calls)
    print(f"the evil list: {len(answers)} parameters")
    assert len(answers) >= 850
    assert faults(answers) == []
    for what, name, answer in answers:
        if name == "U+0000":
            assert answer.status_code == 422 and answer.json()["code"] == "invalid_text", what
        elif name in ("bad UTF-8", "a surrogate", "overlong", "half an escape"):
            assert answer.status_code == 400 and answer.json()["code"] == "malformed_url", what
