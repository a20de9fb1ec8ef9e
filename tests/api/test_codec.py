"""The codec endpoint: Temporal's own contract, for the installation's operator only (RELIABILITY F5)."""

import base64
import os
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from api.main import create_app
from infra.crypto import CryptoError
from infra.settings import Settings
from models.user import Role
from tests.fixtures.api import Edge, assert_problem, edge_settings, no_temporal

TOKEN = "operator-" + "x" * 32
UI = "http://temporal.test:8233"
PLAIN = {
    "metadata": {"encoding": base64.b64encode(b"json/plain").decode()},
    "data": base64.b64encode(b'"canary"').decode(),
}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def key() -> SecretStr:
    return SecretStr(base64.b64encode(os.urandom(32)).decode())


def settings(owner_url: str = "postgresql://x:y@127.0.0.1/z", **changes: Any) -> Settings:
    ours = {"payload_keys": {"k": key()}, "payload_key": "k", "operator_token": SecretStr(TOKEN), "temporal_ui_url": UI}
    return edge_settings(owner_url).model_copy(update=ours | changes)


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://chama.test")


@pytest.fixture
def app() -> FastAPI:
    return create_app(settings(), temporal=no_temporal)


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client(app) as made:
        yield made


async def sealed(http: httpx.AsyncClient, *payloads: Any) -> list[Any]:
    answer = await http.post("/v1/codec/encode", json={"payloads": list(payloads)}, headers=BEARER)
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["payloads"]
    return found


async def decode(http: httpx.AsyncClient, payloads: Any, **headers: str) -> httpx.Response:
    return await http.post("/v1/codec/decode", json={"payloads": payloads}, headers=headers)


async def test_what_was_encoded_decodes(http: httpx.AsyncClient) -> None:
    (closed,) = await sealed(http, PLAIN)
    assert base64.b64decode(closed["metadata"]["encoding"]) == b"binary/encrypted"
    assert base64.b64decode(closed["metadata"]["encryption-key-id"]) == b"k"
    assert "canary" not in str(closed) and PLAIN["data"] not in str(closed)
    answer = await decode(http, [closed, PLAIN], **BEARER, **{"X-Namespace": "default"})
    assert answer.json() == {"payloads": [PLAIN, PLAIN]}, "what was never encrypted passes"
    assert answer.headers["cache-control"] == "no-store"
    assert (await decode(http, [], **BEARER)).json() == {"payloads": []}
    later = {**closed, "externalPayloads": [], "data": closed["data"]}
    assert (await decode(http, [later], **BEARER)).json() == {"payloads": [PLAIN]}


async def test_nobody_but_the_operator(http: httpx.AsyncClient) -> None:
    (closed,) = await sealed(http, PLAIN)
    for header in ("", "Bearer", "Bearer x", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer é"):
        for path in ("decode", "encode"):
            headers = {"Authorization": header.encode()} if header else {}
            answer = await http.post(f"/v1/codec/{path}", json={"payloads": [closed]}, headers=headers)
            assert_problem(answer, 401, "invalid_token")


async def test_a_tenants_admin_is_not_the_operator(edge: Edge) -> None:
    app = create_app(
        settings(edge.owner_url, token_key=edge.settings.token_key),
        database=edge.app.state.database,
        temporal=no_temporal,
    )
    async with client(app) as http:
        (closed,) = await sealed(http, PLAIN)
        admin = edge.headers(edge.user(Role.ADMIN))
        assert_problem(await decode(http, [closed], **admin), 401, "invalid_token")
        cookie = admin["Authorization"].removeprefix("Bearer ")
        answer = await decode(http, [closed], Cookie=f"chama_operator={cookie}", Origin=UI)
        assert_problem(answer, 401, "invalid_token")


@pytest.mark.parametrize("token", ["", "Bearer", TOKEN])
async def test_without_an_operator_token_everybody_is_refused(token: str) -> None:
    app = create_app(settings(operator_token=SecretStr("")), temporal=no_temporal)
    async with client(app) as http:
        assert_problem(await decode(http, [PLAIN], Authorization=f"Bearer {token}"), 401, "invalid_token")
        assert (await http.post("/v1/codec/login", data={"token": token})).status_code == 401


def test_a_short_token_does_not_start() -> None:
    with pytest.raises(CryptoError):
        create_app(settings(operator_token=SecretStr("short")), temporal=no_temporal)


def test_without_payload_keys_the_api_does_not_start() -> None:
    with pytest.raises(CryptoError):
        create_app(settings(payload_keys={}, payload_key=""), temporal=no_temporal)


async def test_the_login_page_gives_a_cookie_for_the_ui_alone(http: httpx.AsyncClient) -> None:
    (closed,) = await sealed(http, PLAIN)
    page = await http.get("/v1/codec/login")
    assert 'type="password"' in page.text and "default-src 'none'" in page.headers["content-security-policy"]
    for wrong in ({"token": "x"}, {}, {"token": [TOKEN, "x"] * 20}):
        refused = await http.post("/v1/codec/login", data=wrong)
        assert refused.status_code == 401 and "set-cookie" not in refused.headers
    opened = await http.post("/v1/codec/login", data={"token": TOKEN})
    flags = opened.headers["set-cookie"]
    assert TOKEN not in flags and TOKEN not in opened.text
    for flag in ("HttpOnly", "SameSite=strict", "Path=/v1/codec", "Max-Age=3600"):
        assert flag in flags
    answer = await decode(http, [closed], Origin=UI)
    assert answer.json() == {"payloads": [PLAIN]}
    assert answer.headers["access-control-allow-origin"] == UI
    assert answer.headers["access-control-allow-credentials"] == "true"
    for origin in ({}, {"Origin": "http://evil.test"}, {"Origin": UI + "1"}, {"Origin": "null"}):
        answer = await decode(http, [closed], **origin)
        assert_problem(answer, 401, "invalid_token")
        assert "access-control-allow-origin" not in answer.headers


async def test_old_forged_and_foreign_cookies_are_refused(app: FastAPI, http: httpx.AsyncClient) -> None:
    good = app.state.operator.issue_cookie()
    claims = jwt.decode(good, options={"verify_signature": False})
    private = app.state.operator._private
    forged = [
        jwt.encode(claims | {"exp": claims["iat"] - 1}, private, algorithm="EdDSA"),
        jwt.encode(claims | {"aud": "chama-api"}, private, algorithm="EdDSA"),
        *(
            jwt.encode({name: claims[name] for name in claims if name != left}, private, algorithm="EdDSA")
            for left in claims
        ),
        *(
            jwt.encode(claims | {"opr": other}, private, algorithm="EdDSA")
            for other in ("", "0" * 64, 1, None, "é", [])
        ),
        jwt.encode(claims, "x" * 40, algorithm="HS256"),
        good[:-4] + "AAAA",
        "",
        "x",
    ]
    for cookie in forged:
        assert_problem(await decode(http, [PLAIN], Cookie=f"chama_operator={cookie}", Origin=UI), 401, "invalid_token")
    assert (await decode(http, [PLAIN], Cookie=f"chama_operator={good}", Origin=UI)).status_code == 200
    assert_problem(await http.get("/v1/users/me", headers={"Authorization": f"Bearer {good}"}), 401, "invalid_token")


async def test_another_operator_token_ends_the_cookies_of_the_one_before() -> None:
    before = settings()
    cookie = f"chama_operator={create_app(before, temporal=no_temporal).state.operator.issue_cookie()}"
    for token, status in ((TOKEN, 200), (TOKEN + "2", 401)):
        after = before.model_copy(update={"operator_token": SecretStr(token)})
        async with client(create_app(after, temporal=no_temporal)) as http:
            assert (await decode(http, [PLAIN], Cookie=cookie, Origin=UI)).status_code == status
    claims = jwt.decode(cookie.partition("=")[2], options={"verify_signature": False})
    assert TOKEN not in str(claims)


async def test_preflight_is_for_the_ui_and_these_paths_only(http: httpx.AsyncClient) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-namespace"}
    allowed = await http.options("/v1/codec/decode", headers=asked | {"Origin": UI})
    assert allowed.status_code == 200 and allowed.headers["access-control-allow-origin"] == UI
    assert allowed.headers["access-control-allow-credentials"] == "true"
    for path, origin in (("/v1/codec/decode", "http://evil.test"), ("/v1/users/me", UI), ("/v1/auth/login", UI)):
        refused = await http.options(path, headers=asked | {"Origin": origin})
        assert refused.status_code in (400, 405) and "access-control-allow-origin" not in refused.headers


async def test_wrong_keys_and_changed_bytes_are_a_problem(http: httpx.AsyncClient) -> None:
    (closed,) = await sealed(http, PLAIN)
    async with client(create_app(settings(), temporal=no_temporal)) as other:
        (foreign,) = await sealed(other, PLAIN)
    unknown = {**closed, "metadata": {**closed["metadata"], "encryption-key-id": base64.b64encode(b"old").decode()}}
    cut = {**closed, "data": closed["data"][:16]}
    for bad in (foreign, unknown, cut, {"metadata": closed["metadata"]}):
        body = assert_problem(await decode(http, [closed, bad], **BEARER), 400, "payload_unreadable")
        assert "canary" not in str(body) and PLAIN["data"] not in str(body)


async def test_bad_bodies_are_a_problem(http: httpx.AsyncClient) -> None:
    many = [{}] * 1_001
    for payloads in ("x", [1], [{"data": 5}], [{"metadata": {"a": 1}}], [{"metadata": []}], many):
        assert_problem(await decode(http, payloads, **BEARER), 422, "invalid_request")
    for bad in ({"data": "%"}, {"metadata": {"encoding": "é"}}, {"data": "A"}):
        assert_problem(await decode(http, [bad], **BEARER), 400, "malformed_payload")
    assert_problem(await decode(http, [PLAIN], **BEARER, **{"X-Namespace": "other"}), 400, "unknown_namespace")
    assert_problem(await decode(http, [{"data": "A" * 300_000}], **BEARER), 413, "body_too_large")
    raw = await http.post("/v1/codec/decode", content=b"{", headers=BEARER | {"Content-Type": "application/json"})
    assert_problem(raw, 400, "malformed_json")
