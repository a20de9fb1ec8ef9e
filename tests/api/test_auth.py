"""Sign-up, login, tokens (RELIABILITY E6), and roles that change at once."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from typing import Any
from uuid import uuid4

import httpx
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.auth import AUDIENCE, ISSUER, InvalidToken
from cli.users import add_user as create_by_command
from contracts.base import Mode
from domain.errors import InvalidRequest
from infra.crypto import token_key
from models.user import Role
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.pledges import add_user

PASSWORD = "correct horse battery"


def slug(edge: Edge) -> str:
    return str(edge.sql("select slug from tenants")[0][0])


async def sign_up(edge: Edge, address: str, *, key: str | None = None, **changes: Any) -> httpx.Response:
    body = {"tenant": slug(edge), "mode": "test", "email": address, "name": "Ada", "password": PASSWORD} | changes
    return await edge.http.post("/v1/auth/signup", json=body, headers={"Idempotency-Key": key} if key else {})


async def log_in(edge: Edge, email: str, password: str = PASSWORD, **changes: Any) -> httpx.Response:
    body = {"tenant": slug(edge), "mode": "test", "email": email, "password": password} | changes
    return await edge.http.post("/v1/auth/login", json=body)


async def test_sign_up_log_in_and_ask_who_i_am(edge: Edge) -> None:
    created = await sign_up(edge, "Ada.Obi@Example.com")
    assert created.status_code == 201, created.text
    assert created.json()["data"]["email"] == "ada.obi@example.com" and created.json()["data"]["role"] == "investor"
    answer = (await log_in(edge, "ADA.OBI@example.com")).json()["data"]
    assert answer["expires_in"] == 3600 and answer["token_type"] == "bearer"
    me = await edge.http.get("/v1/users/me", headers={"Authorization": f"Bearer {answer['access_token']}"})
    assert me.json()["data"] == created.json()["data"] == answer["user"]
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert set(claims) == {"tid", "mode", "sub", "role", "iss", "aud", "iat", "exp", "jti"}


CARDS = "4242 4242 4242 4242"


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"password": "x" * 129}, "password"),
        ({"password": f"my card {CARDS}"}, "password"),
        ({"password": "correct horse\x00battery"}, "password"),
        ({"password": "correct horse \udcff battery"}, "password"),
        ({"password": "too short"}, "password"),
        ({"email": "ada obi@example.com"}, "email"),
        ({"email": "adá@example.com"}, "email"),
        ({"email": "obi@example"}, "email"),
        ({"email": f"{CARDS.replace(' ', '.')}@example.com"}, "email"),
        ({"name": "Ada\nObi"}, "name"),
        ({"name": CARDS}, "name"),
    ],
)
async def test_the_command_line_makes_nobody_who_could_not_log_in(edge: Edge, given: dict[str, str], word: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await made_by_command(edge, **given)
    assert word in refused.value.message and not any(each in str(refused.value) for each in given.values())
    assert edge.count("users", "email like 'cli-%%'") == 0


async def test_whom_the_command_line_makes_logs_in(edge: Edge) -> None:
    for number, password in enumerate(("x" * 128, "naïve ₦ 😀 horse", "0000 1111 horse")):
        await made_by_command(edge, email=f" Made-{number}@Example.com ", password=password)
        assert (await log_in(edge, f"made-{number}@example.com", password)).status_code == 200


async def made_by_command(edge: Edge, **given: str) -> str:
    """`chama user create`."""
    person = {"email": "cli-ada@example.com", "name": "Ada", "password": PASSWORD} | given
    return await create_by_command(edge.settings, tenant=slug(edge), mode=Mode.TEST, role=Role.ADMIN, **person)


async def test_passwords_are_argon2id_and_stand_nowhere_else(edge: Edge) -> None:
    await sign_up(edge, "hash@example.com", key="hash")
    (stored,) = edge.sql("select password_hash from users where email = 'hash@example.com'")[0]
    assert stored.startswith("$argon2id$") and PASSWORD not in stored
    everything = str(edge.sql("select row_to_json(k) from idempotency_keys k")) + str(
        edge.sql("select * from audit_log")
    )
    assert PASSWORD not in everything and hashlib.sha256(PASSWORD.encode()).hexdigest() not in everything


async def test_an_address_signs_up_once(edge: Edge) -> None:
    assert (await sign_up(edge, "once@example.com")).status_code == 201
    assert_problem(await sign_up(edge, "ONCE@example.com"), 409, "email_taken")
    assert (await sign_up(edge, "once@example.com", mode="live")).status_code == 201


async def test_sign_up_with_a_key_repeats_its_answer(edge: Edge) -> None:
    first, again = await sign_up(edge, "k@example.com", key="same"), await sign_up(edge, "k@example.com", key="same")
    assert first.status_code == 201 and again.content == first.content
    stranger = await sign_up(edge, "stranger@example.com", key="same")
    assert stranger.status_code == 201 and stranger.json()["data"]["id"] != first.json()["data"]["id"]
    assert_problem(await sign_up(edge, "k@example.com", key="same", name="Eve"), 422, "idempotency_key_reused")


@pytest.mark.parametrize(
    "change",
    [
        {"role": "admin"},
        {"email": "no-at-sign"},
        {"email": "a@b"},
        {"email": "a b@example.com"},
        {"email": "a@example.com\r\nBcc: x@example.com"},
        {"password": "short"},
        {"password": "x" * 129},
        {"tenant": "No Such"},
        {"mode": "prod"},
        {"name": " "},
        {"disabled_at": None},
    ],
)
async def test_sign_up_refuses(edge: Edge, change: dict[str, Any]) -> None:
    response = await sign_up(edge, "x@example.com", **change)
    assert_problem(response, 422, "invalid_request")
    assert "Bcc" not in response.text


async def test_sign_up_at_an_unknown_tenant(edge: Edge) -> None:
    assert_problem(await sign_up(edge, "x@example.com", tenant="nowhere"), 422, "unknown_tenant")


async def test_every_refused_login_looks_the_same(edge: Edge) -> None:
    await sign_up(edge, "login@example.com")
    await sign_up(edge, "gone@example.com")
    edge.sql("update users set disabled_at = now() where email = 'gone@example.com'")
    add_user(edge.owner_url, edge.scope)  # made without a password
    [(no_password,)] = edge.sql("select email from users where password_hash = '!' limit 1")
    answers = [
        await log_in(edge, no_password, "!"),
        await log_in(edge, "login@example.com", "wrong password"),
        await log_in(edge, "nobody@example.com"),
        await log_in(edge, "gone@example.com"),
        await log_in(edge, "login@example.com", tenant="nowhere"),
        await log_in(edge, "login@example.com", mode="live"),
    ]
    bodies = [assert_problem(answer, 401, "invalid_credentials") for answer in answers]
    assert len({json.dumps(body | {"request_id": ""}) for body in bodies}) == 1


async def test_an_unknown_user_costs_a_hash_too(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    passwords, calls = edge.app.state.passwords, []
    real = passwords._hasher.verify
    monkeypatch.setattr(passwords._hasher, "verify", lambda p, h: calls.append(h) or real(p, h))
    await log_in(edge, "nobody@example.com")
    assert len(calls) == 1 and calls[0].startswith("$argon2id$")


async def test_a_changed_role_and_a_disabled_user_count_at_once(edge: Edge) -> None:
    user = edge.user(Role.ADMIN)
    headers = edge.headers(user)
    assert (await edge.http.get("/v1/admin/outbox", headers=headers)).status_code == 200
    edge.sql("update users set role = 'investor' where id = %s", user.id)
    assert_problem(await edge.http.get("/v1/admin/outbox", headers=headers), 403, "forbidden")
    edge.sql("update users set disabled_at = now() where id = %s", user.id)
    assert_problem(await edge.http.get("/v1/users/me", headers=headers), 401, "invalid_token")


async def test_a_token_is_good_for_its_own_tenant_and_mode_only(edge: Edge) -> None:
    user = edge.user()
    for other in (user.model_copy(update={"tenant_id": uuid4()}), user.model_copy(update={"mode": "live"})):
        response = await edge.http.get("/v1/users/me", headers=edge.headers(other))
        assert_problem(response, 401, "invalid_token")


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def claims_for(user_id: str, edge: Edge, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user_id, "tid": str(edge.scope.tenant_id), "mode": "test"}
    claims |= {"role": "investor", "iat": now, "exp": now + 60, "jti": uuid4().hex}
    return {name: value for name, value in (claims | changes).items() if value is not ...}


def forged(edge: Edge, user_id: str) -> list[str]:
    """Tokens that must not pass, by kind of forgery."""
    key = token_key(edge.settings)
    public_raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    good = claims_for(user_id, edge)
    payload = b64(json.dumps(good).encode())
    found = [
        f"{b64(json.dumps({'alg': alg, 'typ': 'JWT'}).encode())}.{payload}." for alg in ("none", "None", "NONE", "")
    ]
    for secret in (public_raw, public_pem, b64(public_raw).encode()):
        for alg, digest in (("HS256", "sha256"), ("HS512", "sha512"), ("RS256", "sha256"), ("EdDSA", "sha256")):
            head = b64(json.dumps({"alg": alg, "typ": "JWT"}).encode())
            mac = hmac.new(secret, f"{head}.{payload}".encode(), digest).digest()
            found.append(f"{head}.{payload}.{b64(mac)}")
    now = int(time.time())
    bad_claims: list[dict[str, Any]] = [
        {"aud": "other"}, {"aud": [AUDIENCE, "other"]}, {"aud": ...}, {"iss": "other"}, {"iss": ...}, {"exp": now - 1},
        {"exp": now}, {"exp": ...}, {"exp": "never"}, {"iat": now + 3600}, {"nbf": now + 3600}, {"sub": ...}, {"tid": ...},
        {"tid": "x"}, {"tid": None}, {"mode": "prod"}, {"mode": ...}, {"role": "god"}, {"role": ...}, {"jti": ...}, {"sub": 5},
    ]  # fmt: skip
    found += [jwt.encode(claims_for(user_id, edge, **change), key, algorithm="EdDSA") for change in bad_claims]
    stranger = Ed25519PrivateKey.generate()
    for kid in ("../../dev/null", "' or 1=1", "http://evil.test/jwk"):
        headers = {"kid": kid, "jku": "http://evil.test", "jwk": {"kty": "OKP"}}
        found.append(jwt.encode(good, stranger, algorithm="EdDSA", headers=headers))
    return [
        *found,
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "[" * 1500 + ".a.b",
        f"{b64(b'[' * 1200)}.{payload}.aa",
        "x" * 5000,
    ]


async def test_forged_tokens_are_refused(edge: Edge) -> None:
    user = edge.user()
    assert edge.app.state.tokens.check(edge.app.state.tokens.issue(user)).user_id == user.id
    accepted = jwt.encode(claims_for(user.id, edge), token_key(edge.settings), algorithm="EdDSA")
    assert edge.app.state.tokens.check(accepted).user_id == user.id
    for token in forged(edge, user.id):
        with pytest.raises(InvalidToken):
            edge.app.state.tokens.check(token)
    response = await edge.http.get("/v1/users/me", headers={"Authorization": f"Bearer {forged(edge, user.id)[0]}"})
    assert_problem(response, 401, "invalid_token")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_thousand_changed_tokens_are_refused(edge: Edge) -> None:
    token = edge.app.state.tokens.issue(edge.user())
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    changed = {token[:n] + char + token[n + 1 :] for n in range(len(token)) for char in secrets.choice(alphabet) + "Az"}
    changed |= {token[:-1] + char for char in alphabet} | {token + "=", token + "A", " " + token, token + "\n"}
    changed.discard(token)
    assert len(changed) > 1000
    for each in changed:
        with pytest.raises(InvalidToken):
            edge.app.state.tokens.check(each)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "bearer x.y.z", "Token abc"])
async def test_other_credentials_are_401(edge: Edge, header: str) -> None:
    assert_problem(await edge.http.get("/v1/users/me", headers={"Authorization": header}), 401, "invalid_token")


async def test_the_app_role_cannot_read_password_hashes(edge: Edge) -> None:
    with psycopg.connect(edge.settings.app_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("select password_hash from users")
