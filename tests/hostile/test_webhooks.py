"""Forged webhooks of both rails: none is accepted, and nothing is kept of them but the refusal (RELIABILITY C6)."""

import asyncio
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import pytest

from activities.gateways.protocols import PaymentRail, SignatureRefused
from activities.gateways.registry import RailAccount, build_rail
from tests.fixtures.hostile import SECRETS, Target
from tests.gateways.test_webhooks import paystack_sign, stripe_sign

FORGERIES = 12_000
SAMPLE = 600
OTHER = "whsec_of_another_tenant"
HEADER = {"stripe": "stripe-signature", "paystack": "x-paystack-signature"}
EVENT = {
    "stripe": b'{"id":"evt_1","type":"payment_intent.succeeded","data":{"object":{"object":"payment_intent",'
    b'"id":"pi_1","metadata":{"reference":"ch-1"}}}}',
    "paystack": b'{"event":"charge.success","data":{"id":1,"reference":"ch-1","amount":500000,"status":"success"}}',
}


@dataclass
class Forgery:
    kind: str
    provider: str
    raw: bytes
    headers: list[tuple[str, str]] = field(default_factory=list)


def sign(provider: str, raw: bytes, secret: str, moment: int) -> str:
    return stripe_sign(raw, secret, str(moment)) if provider == "stripe" else paystack_sign(raw, secret)


def forge(provider: str, kind: str, dice: random.Random, moment: int) -> Forgery | None:
    """One webhook that the provider did not send like this; None where the kind makes no sense for the rail."""
    raw, name, secret = EVENT[provider], HEADER[provider], SECRETS[provider]
    good = sign(provider, raw, secret, moment)
    place = dice.randrange(len(raw))
    if kind == "byte changed":
        raw = raw[:place] + bytes([raw[place] ^ dice.randint(1, 255)]) + raw[place + 1 :]
    elif kind == "truncated":
        raw = raw[:place]
    elif kind == "extended":
        raw += bytes(dice.choices(b" \n\r\t}x\x00", k=dice.randint(1, 9)))
    elif kind == "serialised again":
        body = json.loads(raw) | {"n": dice.randint(0, 10**9)}
        body.pop("n")
        raw = json.dumps(body, indent=dice.randint(0, 8)).encode()
    elif kind == "signature changed":
        start = good.index("v1=") + 3 if provider == "stripe" else 0
        spot = dice.randrange(start, len(good))
        good = good[:spot] + dice.choice([c for c in "0123456789abcdefXZ -_," if c != good[spot]]) + good[spot + 1 :]
    elif kind == "signature shortened":
        good = good[: dice.randrange(len(good))]
    elif kind == "upper case":
        good = "".join(c.upper() if dice.random() < 0.5 else c for c in good[:-1]) + good[-1].swapcase()
        good = good.replace("T=", "t=").replace("V1=", "v1=")
        good = good if good != sign(provider, raw, secret, moment) else good[:-1] + "G"
    elif kind == "other secret":
        good = sign(provider, raw, dice.choice([OTHER, secret + "x", secret[:-1], secret.upper(), "null"]), moment)
    elif kind == "empty secret":
        good = sign(provider, raw, "", moment)
    elif kind == "other rail's header":
        other = "paystack" if provider == "stripe" else "stripe"
        return Forgery(kind, provider, raw, [(HEADER[other], sign(other, raw, secret, moment))])
    elif kind == "other rail's scheme":
        other = "paystack" if provider == "stripe" else "stripe"
        good = sign(other, raw, secret, moment)
    elif kind == "no header":
        return Forgery(kind, provider, raw)
    elif kind == "header twice":
        bad = sign(provider, raw, OTHER, moment)
        values = dice.sample([good, bad], 2) if dice.random() < 0.5 else [good, good]
        return Forgery(kind, provider, raw, [(name, value) for value in values])
    elif provider == "paystack":  # it signs no time
        return None
    elif kind == "old":
        good = sign(provider, raw, secret, moment - dice.randint(301, 10**8))
    elif kind == "from the future":
        good = sign(provider, raw, secret, moment + dice.randint(420, 10**8))
    elif kind == "time changed":
        good = good.replace(f"t={moment}", f"t={moment + dice.choice([-1, 1]) * dice.randint(1, 200)}")
    elif kind == "unicode digits":
        digits = dice.choice(
            ["٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19"]
        )
        good = good.replace(str(moment), "".join(digits[int(c)] for c in str(moment)))
    elif kind == "other scheme":
        good = good.replace("v1=", dice.choice(["v0=", "v2=", "V1=", "v01=", "=v1="]))
    return Forgery(kind, provider, raw, [(name, good)])


KINDS = (
    "byte changed", "truncated", "extended", "serialised again", "signature changed", "signature shortened", "upper case",
    "other secret", "empty secret", "other rail's header", "other rail's scheme", "no header", "header twice", "old",
    "from the future", "time changed", "unicode digits", "other scheme",
)  # fmt: skip


def forgeries(count: int, moment: int) -> Iterator[Forgery]:
    dice, made = random.Random(19), 0
    while made < count:
        for provider in SECRETS:
            for kind in KINDS:
                if (found := forge(provider, kind, dice, moment)) is not None:
                    made += 1
                    yield found


@pytest.fixture(scope="module")
def rails() -> dict[str, PaymentRail]:
    client = httpx.AsyncClient()
    return {
        name: build_rail(
            RailAccount(
                provider=name,
                secret_key="sk_test_stripe" if name == "stripe" else SECRETS[name],
                webhook_secret=SECRETS[name] if name == "stripe" else "",
            ),
            client,
        )
        for name in SECRETS
    }


def joined(headers: list[tuple[str, str]]) -> dict[str, str]:
    """As the endpoint hands them to the rail."""
    found: dict[str, str] = {}
    for name, value in headers:
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def test_none_of_twelve_thousand_forgeries_verifies(rails: dict[str, PaymentRail]) -> None:
    moment, kinds = int(time.time()), set()
    now, accepted, count = datetime.fromtimestamp(moment, UTC), [], 0
    for name, raw in EVENT.items():  # the same without the forging is accepted
        assert rails[name].verify_webhook(raw, {HEADER[name]: sign(name, raw, SECRETS[name], moment)}, now).event_id
    for forgery in forgeries(FORGERIES, moment):
        count += 1
        kinds.add((forgery.provider, forgery.kind))
        try:
            rails[forgery.provider].verify_webhook(forgery.raw, joined(forgery.headers), now)
            accepted.append(forgery)
        except SignatureRefused:
            pass
    assert accepted == [] and count >= FORGERIES
    assert len(kinds) == 2 * len(KINDS) - 5


async def test_over_http_a_forgery_leaves_its_refusal_and_nothing_else(served: Target) -> None:
    assert served.things is not None
    endpoints = dict(zip(SECRETS, served.things["endpoint_id"], strict=True))
    chosen = list(forgeries(SAMPLE, int(time.time())))
    turns = asyncio.Semaphore(8)

    async def send(forgery: Forgery) -> httpx.Response:
        async with turns:
            return await served.http.post(
                f"/v1/webhooks/payments/{forgery.provider}/{endpoints[forgery.provider]}",
                content=forgery.raw,
                headers=[(name.encode(), value.encode()) for name, value in forgery.headers],
            )

    outbox = served.count("outbox")
    answers = await asyncio.gather(*(send(each) for each in chosen))
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.json()["code"] for answer in answers} == {"signature_refused"}
    assert served.count("webhook_inbox") == 0 and served.count("outbox") == outbox
    assert served.count("webhook_refusals") == len(chosen) >= SAMPLE
    for name, raw in EVENT.items():
        headers = {HEADER[name]: sign(name, raw, SECRETS[name], int(time.time()))}
        answer = await served.http.post(f"/v1/webhooks/payments/{name}/{endpoints[name]}", content=raw, headers=headers)
        assert answer.status_code == 200, answer.text
    assert served.count("webhook_inbox") == 2
