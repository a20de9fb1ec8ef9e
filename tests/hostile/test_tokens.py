"""Forged, changed, foreign and outlived access tokens over HTTP: none opens anything (RELIABILITY E6)."""

import asyncio
import random
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.crypto import token_key
from models.user import Role
from tests.api.test_auth import claims_for, forged
from tests.fixtures.api import assert_problem
from tests.fixtures.hostile import Target
from tests.fixtures.postgres import add_tenant

SPOILT = 500


def spoilt(token: str) -> set[str]:
    """The token with characters changed, cut, doubled, swapped, or with parts of itself in the wrong place."""
    dice, found = random.Random(6), set()
    head, body, tail = token.split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=~"
    while len(found) < SPOILT:
        spot = dice.randrange(len(token))
        found |= {
            token[:spot] + dice.choice(alphabet) + token[spot + 1 :],
            token[:spot],
            token[:spot] + token[spot] + token[spot:],
            token[:spot] + token[spot + 1 :],
        }
    found |= {f"{body}.{head}.{tail}", f"{head}.{body}.", f"{head}.{body}", f"{head}..{tail}", f"{head}.{body}.{body}"}
    return found - {token}


def signed_elsewhere(served: Target, user_id: str) -> list[str]:
    """Right claims under wrong keys and algorithms, and wrong claims under the right key."""
    good, now, ours = claims_for(user_id, served), int(time.time()), token_key(served.settings)
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kids = ["0", "../../../../dev/null", "x' union select 'k", "\u202e", "http://127.0.0.1/jwks", "a" * 500]
    found = [jwt.encode(good, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": kid}) for kid in kids]
    found += [jwt.encode(good, rsa_key, algorithm=name) for name in ("RS256", "RS512", "PS256")]
    found += [jwt.encode(good, secret.encode() * 8, algorithm="HS256") for secret in ("secret", "chama", "chama-api")]
    wrong = [
        {"nbf": now + 60}, {"nbf": now + 10**9}, {"exp": now - 1}, {"exp": now - 10**6}, {"exp": 0}, {"exp": -1},
        {"aud": "chama"}, {"aud": ["chama-api"]}, {"iss": "chama-api"}, {"iss": ""}, {"mode": "live"},
        {"tid": str(add_tenant(served.owner_url))}, {"tid": "00000000-0000-0000-0000-000000000000"},
        {"sub": "usr_" + "0" * 32}, {"sub": "%"}, {"sub": "' or true --"}, {"sub": "usr_x\x00"}, {"iat": now + 10**6},
    ]  # fmt: skip
    return found + [jwt.encode(claims_for(user_id, served, **claims), ours, algorithm="EdDSA") for claims in wrong]


async def test_no_forged_token_opens_anything(served: Target) -> None:
    user = served.person(Role.ADMIN)
    token = served.app.state.tokens.issue(user)
    tokens = [*sorted(spoilt(token)), *forged(served, user.id), *signed_elsewhere(served, user.id)]
    tokens = [each for each in tokens if each and each.isascii() and each.isprintable()]
    assert len(tokens) >= SPOILT + 80
    places = ("/v1/users/me", "/v1/accounts", "/v1/admin/outbox", "/v1/campaigns")
    turns = asyncio.Semaphore(8)

    async def ask(number: int, each: str) -> int:
        async with turns:
            headers = {"Authorization": f"Bearer {each}"}
            return (await served.http.get(places[number % len(places)], headers=headers)).status_code

    good = {"Authorization": f"Bearer {token}"}
    assert [(await served.http.get(place, headers=good)).status_code for place in places] == [200] * 4
    answers = await asyncio.gather(*(ask(number, each) for number, each in enumerate(tokens)))
    assert [each for each, status in zip(tokens, answers, strict=True) if status != 401] == []


async def test_a_role_taken_away_counts_for_tokens_already_out(served: Target) -> None:
    user = served.user(Role.ADMIN)
    headers = served.headers(user)
    assert (await served.http.get("/v1/accounts", headers=headers)).status_code == 200
    served.sql("update users set role = 'investor' where id = %s", user.id)
    assert_problem(await served.http.get("/v1/accounts", headers=headers), 403, "forbidden")
    served.sql("update users set disabled_at = now() where id = %s", user.id)
    assert_problem(await served.http.get("/v1/users/me", headers=headers), 401, "invalid_token")
