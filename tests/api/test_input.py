"""Bad input: a 4xx problem for any bytes, nothing echoed, nothing changed (RELIABILITY F1, F3)."""

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from api.envelope import aware_time, encode_cursor
from models.user import Role
from tests.fixtures.api import Edge, assert_problem, toy_body

CANARY = "canary-4111111111111112"


async def post(edge: Edge, raw: bytes, **headers: str) -> httpx.Response:
    common = edge.headers(edge.user(), "k") | {"Content-Type": "application/json"} | headers
    return await edge.http.post("/v1/toys/a", content=raw, headers=common)


def with_raw(field: str, raw: str) -> bytes:
    """The toy body with one field replaced by raw JSON text."""
    return json.dumps(toy_body() | {field: "@@"}).replace('"@@"', raw).encode("utf-8", "surrogatepass")


MALFORMED = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "-1e999",
    '"\\ud800"',
    '"\\udc00\\ud800"',
    "[" * 100_000,
    "9" * 5000,
]
MALFORMED += ["[" * 40 + "]" * 40, "tru", "'x'", "01", '{"a":1,"a":2}']
EVIL_NUMBERS = [
    "true",
    "null",
    "10.0",
    '"10"',
    "-5",
    "0",
    "1e3",
    str(2**53),
    str(2**63),
    str(2**200),
    "[]",
    "{}",
    "1.5",
]
EVIL_TEXTS = ["1", "true", "null", '""', '"   "', "[]", '{"a":"b"}', '"' + "x" * 6000 + '"']


@pytest.mark.parametrize("field", ["amount", "currency", "note", "essay", "kind", "at", "unknown"])
async def test_what_is_no_json_is_400_in_every_field(edge: Edge, field: str) -> None:
    for raw in MALFORMED:
        assert_problem(await post(edge, with_raw(field, raw)), 400, "malformed_json")


@pytest.mark.parametrize(
    "raw", [b"\xff\xfe", b'\xef\xbb\xbf{"amount":1}', b'{"note":"\xc3\x28"}', b"{", b"\x00", b'"\xed\xa0\x80"']
)
async def test_bad_bytes_are_400(edge: Edge, raw: bytes) -> None:
    assert_problem(await post(edge, raw), 400, "malformed_json")


@pytest.mark.parametrize("field", ["currency", "note", "essay", "kind", "at", "unknown"])
async def test_nul_is_422_in_every_text(edge: Edge, field: str) -> None:
    assert_problem(await post(edge, with_raw(field, '"a\\u0000b"')), 422, "invalid_text")


@pytest.mark.parametrize("field", ["currency", "note", "essay", "kind", "at", "unknown"])
async def test_a_card_number_is_422_in_every_text(edge: Edge, field: str) -> None:
    for text in (
        "4242424242424242",
        "card 4242 4242 4242 4242 12/30",
        "5555-5555-5555-4444",
        "３７８２８２２４６３１０００５",
    ):
        for value in (text, [text], {"deep": [text]}, {text: 1}):
            response = await post(edge, json.dumps(toy_body() | {field: value}).encode())
            assert_problem(response, 422, "card_number")
            assert text not in response.text


async def test_a_card_number_is_no_request_id(edge: Edge) -> None:
    for given, kept in (("req-4242424242424242", False), ("req-4242424242424241", True)):
        response = await edge.http.get("/healthz", headers={"X-Request-Id": given})
        assert (response.headers["x-request-id"] == given) is kept


async def test_nul_in_a_key_is_422(edge: Edge) -> None:
    assert_problem(await post(edge, b'{"a\\u0000": 1}'), 422, "invalid_text")


@pytest.mark.parametrize("raw", EVIL_NUMBERS)
async def test_amounts_are_strict(edge: Edge, raw: str) -> None:
    body = assert_problem(await post(edge, with_raw("amount", raw)), 422, "invalid_request")
    assert [error["field"] for error in body["errors"]] == ["amount"]


@pytest.mark.parametrize("field", ["currency", "note", "kind"])
@pytest.mark.parametrize("raw", EVIL_TEXTS)
async def test_texts_are_strict(edge: Edge, field: str, raw: str) -> None:
    body = assert_problem(await post(edge, with_raw(field, raw)), 422, "invalid_request")
    assert [error["field"] for error in body["errors"]] == [field]


@pytest.mark.parametrize(
    "raw", ["0", "1735689600", '"2026-01-01"', '"2026-01-01T00:00:00"', '"0001-01-01T00:00:00+14:00"', '"x"']
)
async def test_times_need_an_offset(edge: Edge, raw: str) -> None:
    assert_problem(await post(edge, with_raw("at", raw)), 422, "invalid_request")


@pytest.mark.parametrize(
    "note", ["'; DROP TABLE users;--", "{{7*7}}", "../../etc/passwd", "\u202eevil", "a\u200bb", "😀", "2" * 200]
)
async def test_odd_but_honest_text_passes_unchanged(edge: Edge, note: str) -> None:
    user = edge.user()
    answer = await edge.toy(user, "k", note=note)
    assert answer.status_code == 202 and answer.json()["data"]["note"] == note


async def test_control_characters_are_refused_in_short_texts(edge: Edge) -> None:
    assert_problem(await post(edge, with_raw("note", '"a\\r\\nBcc: x"')), 422, "invalid_request")


@pytest.mark.parametrize("field", ["amount", "currency", "note", "essay", "kind", "at"])
@pytest.mark.parametrize("value", [CANARY, [CANARY], {CANARY: CANARY}, CANARY * 400])
async def test_input_is_never_echoed(edge: Edge, field: str, value: Any) -> None:
    response = await post(edge, json.dumps(toy_body() | {field: value}).encode())
    if response.status_code != 202:
        assert CANARY not in response.text and CANARY not in str(response.headers)


async def test_unknown_fields_are_refused_without_their_names(edge: Edge) -> None:
    response = await post(edge, json.dumps(toy_body() | {CANARY: 1}).encode())
    body = assert_problem(response, 422, "invalid_request")
    assert CANARY not in response.text and body["errors"][0]["code"] == "extra_forbidden"


async def test_another_content_type_is_415(edge: Edge) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml"):
        response = await post(edge, json.dumps(toy_body()).encode(), **{"Content-Type": kind})
        assert_problem(response, 415, "unsupported_media_type")


async def test_an_empty_body_is_422(edge: Edge) -> None:
    assert_problem(await post(edge, b""), 422, "invalid_request")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/toys/%00", 422, "invalid_text"),
        ("/v1/toys/%ff", 400, "malformed_url"),
        ("/v1/toys/%ed%a0%80", 400, "malformed_url"),
        ("/v1/users/me?x=%00", 422, "invalid_text"),
        ("/v1/users/me?x=%c3%28", 400, "malformed_url"),
        ("/v1/nothing", 404, "not_found"),
    ],
)
async def test_paths_and_queries(edge: Edge, path: str, status: int, code: str) -> None:
    assert_problem(await edge.http.get(path), status, code)


async def test_a_wrong_method_is_405_with_allow(edge: Edge) -> None:
    response = await edge.http.delete("/v1/users/me")
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "!!",
        "bnVsbA",
        "WzEuNV0",
        "W3RydWVd",
        "WzEsMl0",
        "WyJhIl0",
        "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OTldIA",
        "A" * 600,
        "W1tbW1tbW1s",
    ],
)
async def test_a_cursor_of_someone_else_is_refused(edge: Edge, cursor: str) -> None:
    response = await edge.http.get(
        "/v1/admin/outbox", params={"cursor": cursor}, headers=edge.headers(edge.user(Role.ADMIN))
    )
    assert response.status_code in (400, 422), response.text
    assert response.json()["code"] in ("invalid_cursor", "invalid_request") and cursor not in response.json()["detail"]


FAR_OFF = ["2027-01-31T12:00:00+16:00", "2027-01-31T12:00:00-23:59", "2027-01-31T12:00:00+23:59:59.999999"]
NEVER = ["0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-23:59", "2027-01-31T12:00:00+24:00", "2027-01-31T12:00:00"]


@pytest.mark.parametrize("at", FAR_OFF)
async def test_an_offset_that_postgres_would_not_take(edge: Edge, at: str) -> None:
    user, admin = edge.headers(edge.user()), edge.headers(edge.user(Role.ADMIN))
    place = encode_cursor(at, "inv_1")
    for path in ("investments", "payments", "payouts"):
        answer = await edge.http.get(f"/v1/{path}", params={"cursor": place}, headers=user)
        assert answer.status_code == 200, answer.text
    assert (await edge.http.get("/v1/campaigns", params={"ends_after": at}, headers=user)).status_code == 200
    balance = await edge.http.get("/v1/accounts/suspense:NGN/balance", params={"as_of": at}, headers=admin)
    assert_problem(balance, 404, "not_found")


@pytest.mark.parametrize("at", NEVER)
async def test_a_time_that_is_none(edge: Edge, at: str) -> None:
    user = edge.headers(edge.user())
    answer = await edge.http.get("/v1/investments", params={"cursor": encode_cursor(at, "inv_1")}, headers=user)
    assert_problem(answer, 400, "invalid_cursor")
    answer = await edge.http.get("/v1/campaigns", params={"ends_after": at}, headers=user)
    assert_problem(answer, 422, "invalid_request")


def test_a_time_is_kept_in_utc() -> None:
    assert aware_time("2027-01-31T12:00:00+16:00").isoformat() == "2027-01-30T20:00:00+00:00"
    assert aware_time("0001-01-01T00:00:00Z") == datetime.min.replace(tzinfo=UTC)


async def test_what_nobody_expected_is_a_silent_500(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError(f"secret {CANARY}")

    monkeypatch.setattr("models.pages.ask", broken)
    response = await edge.http.get("/v1/users/me", headers=edge.headers(edge.user()))
    assert_problem(response, 500, "internal_error")
    assert CANARY not in response.text
