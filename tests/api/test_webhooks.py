"""The door for providers on a real database: forged is refused and leaves a fingerprint, the same event counts once."""

import asyncio
import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from contracts.base import Scope
from infra.crypto import Vault
from models.provider import ProviderAccount, sealing_purpose
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.pledges import add_pledge
from tests.fixtures.postgres import add_tenant

SECRET, KEY = "whsec_edge", "sk_test_edge"


@dataclass(frozen=True)
class Door:
    """One account's webhook endpoint."""

    edge: Edge
    account: ProviderAccount

    async def send(self, raw: bytes, **headers: str) -> httpx.Response:
        path = f"/v1/webhooks/payments/{self.account.provider}/{self.account.id}"
        return await self.edge.http.post(path, content=raw, headers=headers)

    async def signed(self, raw: bytes) -> httpx.Response:
        if self.account.provider == "paystack":
            return await self.send(
                raw, **{"x-paystack-signature": hmac.new(KEY.encode(), raw, hashlib.sha512).hexdigest()}
            )
        t = str(int(time.time()))
        v1 = hmac.new(SECRET.encode(), f"{t}.".encode() + raw, hashlib.sha256).hexdigest()
        return await self.send(raw, **{"Stripe-Signature": f"t={t},v1={v1}"})

    def event(self, reference: str = "") -> bytes:
        number = uuid4().hex
        about = (
            {"id": f"pi_{number}", "object": "payment_intent", "metadata": {"reference": reference}}
            if reference
            else {}
        )
        body: dict[str, Any] = {"id": f"evt_{number}", "type": "charge.succeeded", "data": {"object": about}}
        if self.account.provider == "paystack":
            data = {"id": int(number[:12], 16), "reference": reference or f"ch-{number}"}
            body = {"event": "charge.success", "data": data}
        return json.dumps(body).encode()

    def stored(self) -> tuple[int, int, int]:
        """Events, messages to the inbox's process, refusals."""
        where = {"account_id = %s": self.account.id}
        [(clause, value)] = where.items()
        return (
            self.edge.count("webhook_inbox", clause, value),
            self.edge.count("outbox", "workflow_type = 'InboxWorkflow'"),
            self.edge.count("webhook_refusals", clause, value),
        )


def add_account(edge: Edge, provider: str, scope: Scope) -> ProviderAccount:
    vault = Vault.from_settings(edge.settings)
    account = ProviderAccount(
        tenant_id=scope.tenant_id, mode=str(scope.mode), id=f"acct-{uuid4().hex}", provider=provider,
        base_url="http://127.0.0.1:1", sealed_secret_key="", currencies=["NGN"],
    )  # fmt: skip
    edge.sql(
        "insert into provider_accounts (tenant_id, mode, id, provider, base_url, sealed_secret_key, "
        "sealed_webhook_secret, currencies) values (%s, %s, %s, %s, %s, %s, %s, %s)",
        account.tenant_id, account.mode, account.id, provider, account.base_url,
        vault.seal(KEY, purpose=sealing_purpose(account, "secret_key")),
        vault.seal(SECRET, purpose=sealing_purpose(account, "webhook_secret")), account.currencies,
        scope=scope,
    )  # fmt: skip
    return account


@pytest.fixture(params=["stripe", "paystack"])
def door(edge: Edge, request: pytest.FixtureRequest) -> Door:
    """An account of a tenant of its own."""
    edge.scope = Scope(tenant_id=add_tenant(edge.owner_url), mode=edge.scope.mode)
    return Door(edge, add_account(edge, str(request.param), edge.scope))


async def test_the_same_event_many_times_is_stored_once(door: Door) -> None:
    raw = door.event()
    for _ in range(2):
        assert (await door.signed(raw)).status_code == 200
    answers = await asyncio.gather(*(door.signed(raw) for _ in range(8)))
    assert {each.status_code for each in answers} == {200}
    assert door.stored() == (1, 1, 0)
    assert (await door.signed(door.event())).status_code == 200
    assert door.stored() == (2, 2, 0)


@pytest.mark.parametrize("operation", ["start", "capture"])
async def test_an_event_about_a_call_under_way_waits_for_its_record(door: Door, operation: str) -> None:
    """The provider reports a payment sooner than we have written down its answer: a moment later that is no news."""
    reference = f"ch-{uuid4().hex}"
    key = f"attempt/{reference}/{operation}"
    door.edge.sql(
        "insert into effects (tenant_id, mode, key, provider, operation, request_hash, status) "
        "values (%s, %s, %s, %s, %s, '', 'claimed')",
        door.edge.scope.tenant_id, str(door.edge.scope.mode), key, door.account.provider, operation,
    )  # fmt: skip
    waiting = asyncio.create_task(door.signed(door.event(reference)))
    await asyncio.sleep(0.1)
    assert not waiting.done() and door.stored() == (0, 0, 0)
    door.edge.sql("update effects set status = 'done' where key = %s", key)
    assert (await waiting).status_code == 200
    assert door.stored()[0] == 1
    door.edge.sql("update effects set status = 'claimed' where key = %s", key)
    assert (await door.signed(door.event(reference))).status_code == 200, "a caller that died holds nothing up"
    assert door.stored()[0] == 2


async def test_what_the_provider_did_not_sign_leaves_a_fingerprint_only(door: Door) -> None:
    raw = door.event()
    name = "x-paystack-signature" if door.account.provider == "paystack" else "Stripe-Signature"
    good = hmac.new(b"another key", raw, hashlib.sha512).hexdigest()
    for forged in (good, f"t={int(time.time())},v1={good[:64]}", ""):
        assert_problem(await door.send(raw, **{name: forged}), 401, "signature_refused")
    assert_problem(await door.send(raw), 401, "signature_refused")
    assert door.stored() == (0, 0, 4)
    [(fingerprint, size)] = door.edge.sql("select distinct body_sha256, body_bytes from webhook_refusals")
    assert (bytes(fingerprint), size) == (hashlib.sha256(raw).digest(), len(raw))


async def test_an_event_of_one_account_is_no_event_of_another(edge: Edge) -> None:
    """The same provider numbers events for all its merchants, and a stranger's event must not shadow ours."""
    raw = Door(edge, ProviderAccount(provider="stripe")).event()
    for _ in range(2):
        edge.scope = Scope(tenant_id=add_tenant(edge.owner_url), mode=edge.scope.mode)
        door = Door(edge, add_account(edge, "stripe", edge.scope))
        assert (await door.signed(raw)).status_code == 200
        assert door.stored()[0] == 1


async def test_no_endpoint_of_that_name_or_provider(door: Door) -> None:
    other = "stripe" if door.account.provider == "paystack" else "paystack"
    response = await door.edge.http.post(f"/v1/webhooks/payments/{other}/{door.account.id}", content=door.event())
    assert_problem(response, 404, "not_found")


WOKEN = {
    "its newest attempt": ("pi_1", 1, "PaymentWorkflow"),
    "an attempt that another replaced": ("pi_1", 2, "InboxWorkflow"),
    "a second payment under its reference": ("pi_2", 1, "InboxWorkflow"),
}
"""What an event is about: the provider's id in it, how many attempts the payment has, and whose process looks it up."""


@pytest.mark.parametrize("about", WOKEN)
@pytest.mark.parametrize("door", ["stripe"], indirect=True)
async def test_an_event_wakes_whoever_looks_up_what_it_is_about(door: Door, about: str) -> None:
    """A payment that waits looks up its newest attempt and no other."""
    provider_id, attempts, woken = WOKEN[about]
    pledge = await add_pledge(door.edge.app.state.database, door.edge.scope, door.edge.owner_url)
    door.edge.sql("update payment_attempts set provider_id = 'pi_1' where reference = %s", pledge.attempt.reference)
    door.edge.sql("update payments set attempts = %s where id = %s", attempts, pledge.payment.id)
    event = {"id": provider_id, "object": "payment_intent", "metadata": {"reference": pledge.attempt.reference}}
    body = {"id": f"evt_{uuid4().hex}", "type": "payment_intent.succeeded", "data": {"object": event}}
    assert (await door.signed(json.dumps(body).encode())).status_code == 200
    for kind in ("PaymentWorkflow", "InboxWorkflow"):
        assert door.edge.count("outbox", "workflow_type = %s", kind) == (kind == woken), kind
