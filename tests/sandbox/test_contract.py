"""The sandbox's answers and events against the vendors' published schemas and samples, where those lie beside the repository."""

import json
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.sandbox.conftest import Merchant, Receiver, eventually
from tests.sandbox.test_paystack import PAYER, begin, choose
from tests.sandbox.test_transfers import recipient, send

CONTRACTS = Path(__file__).parents[3] / "shared" / "contracts"
pytestmark = pytest.mark.skipif(not CONTRACTS.is_dir(), reason="the contract documents are not beside this repository")
VISA = {"confirm": "true", "payment_method": "pm_card_visa"}


class Contract:
    """One OpenAPI document; `check` validates an answer against the schema of its operation and status."""

    def __init__(self, name: str) -> None:
        self.document = json.loads((CONTRACTS / f"{name}.openapi.json").read_text())
        _mend(self.document)
        resource = Resource(contents=self.document, specification=DRAFT202012)
        self.registry: Any = Registry().with_resource("urn:contract", resource)

    def check(self, method: str, path: str, answer: Any) -> Any:
        responses = self.document["paths"][path][method]["responses"]
        response = responses.get(str(answer.status_code)) or responses["default"]
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
        self.validate(response["content"]["application/json"]["schema"], answer.json())
        return answer.json()

    def validate(self, schema: dict[str, Any], value: Any) -> None:
        absolute = json.loads(json.dumps(schema).replace('"#/', '"urn:contract#/'))
        errors = sorted(OAS30Validator(absolute, registry=self.registry).iter_errors(value), key=str)
        assert not errors, [(list(e.absolute_path), e.message[:200]) for e in errors[:5]]


def _mend(node: Any) -> None:
    """Two defects of the documents: `nullable` beside an `enum` or `anyOf` that has no null, and Paystack's list of
    error *types* put on `code` (its own example has code "duplicate_reference")."""
    if isinstance(node, list):
        for item in node:
            _mend(item)
    elif isinstance(node, dict):
        if node.get("nullable") is True:
            if "enum" in node:
                node["enum"] = [*node["enum"], None]
            if "anyOf" in node:
                node["anyOf"] = [*node["anyOf"], {"nullable": True, "enum": [None]}]
        if node.get("enum") == ["validation_error", "processor_error", "api_error"]:
            del node["enum"]
        for item in list(node.values()):
            _mend(item)


@pytest.fixture(scope="module")
def stripe_contract() -> Contract:
    return Contract("stripe")


@pytest.fixture(scope="module")
def paystack_contract() -> Contract:
    return Contract("paystack")


async def test_stripe_answers(stripe: Merchant, stripe_contract: Contract) -> None:
    check, intents = stripe_contract.check, "/v1/payment_intents"
    held = check(
        "post",
        intents,
        await stripe.intent(reference="c-1", capture_method="manual", setup_future_usage="off_session", **VISA),
    )
    one = f"{intents}/{held['id']}"
    check("get", "/v1/payment_intents/{intent}", await stripe.client.get(one))
    check("post", "/v1/payment_intents/{intent}/capture", await stripe.post(f"{one}/capture"))
    check("post", "/v1/payment_intents/{intent}/capture", await stripe.post(f"{one}/capture"))
    check("post", "/v1/payment_intents/{intent}/cancel", await stripe.post(f"{one}/cancel"))
    refund = check("post", "/v1/refunds", await stripe.post("/v1/refunds", {"payment_intent": held["id"], "amount": 5}))
    check("get", "/v1/refunds/{refund}", await stripe.client.get(f"/v1/refunds/{refund['id']}"))
    check("get", "/v1/refunds", await stripe.client.get("/v1/refunds"))
    check("get", "/v1/charges/{charge}", await stripe.client.get(f"/v1/charges/{held['latest_charge']}"))
    action = check(
        "post", intents, await stripe.intent(confirm="true", payment_method="pm_card_authenticationRequired")
    )
    assert action["status"] == "requires_action"
    declined = check("post", intents, await stripe.intent(confirm="true", payment_method="pm_card_chargeDeclined"))
    assert declined["error"]["type"] == "card_error"
    check("get", intents, await stripe.client.get(intents))
    query = {"query": "metadata['reference']:'c-1'"}
    check("get", "/v1/payment_intents/search", await stripe.client.get(f"{intents}/search", params=query))
    check("get", "/v1/payment_intents/{intent}", await stripe.client.get(f"{intents}/pi_none"))
    check(
        "post",
        "/v1/payment_intents/{intent}/confirm",
        await stripe.post(f"{intents}/{declined['error']['payment_intent']['id']}/confirm", VISA | {"confirm": ""}),
    )


async def test_stripe_events(stripe: Merchant, stripe_contract: Contract, receiver: Receiver) -> None:
    paid = (await stripe.intent(**VISA)).json()
    await stripe.post("/v1/refunds", {"payment_intent": paid["id"]})
    schemas = stripe_contract.document["components"]["schemas"]
    for event in await receiver.take(paid["id"], 3):
        stripe_contract.validate(schemas["event"], event.json)
        subject = event.json["data"]["object"]
        stripe_contract.validate(schemas[subject["object"]], subject)


async def test_stripe_objects_have_the_fields_of_the_fixtures(stripe: Merchant) -> None:
    fixtures = json.loads((CONTRACTS / "stripe.fixtures.json").read_text())["resources"]
    newer = {
        "source",
        "excluded_payment_method_types",
        "customer_account",
        "managed_payments",
        "payment_method_configuration_details",
    }
    paid = (await stripe.intent(**VISA)).json()
    assert set(fixtures["payment_intent"]) - set(paid) - newer == set()
    refund = (await stripe.post("/v1/refunds", {"payment_intent": paid["id"]})).json()
    missing = set(fixtures["refund"]) - set(refund)
    assert missing == {"customer", "customer_account", "payment_method", "destination_details"}, (
        "newer than the pinned version"
    )


async def test_paystack_answers(paystack: Merchant, paystack_contract: Contract) -> None:
    check = paystack_contract.check
    body = {"email": PAYER, "amount": 1000, "currency": "NGN", "reference": "p-1"}
    made = check("post", "/transaction/initialize", await paystack.post("/transaction/initialize", body))["data"]
    check("post", "/transaction/initialize", await paystack.post("/transaction/initialize", body))
    check("get", "/transaction/verify/{reference}", await paystack.client.get("/transaction/verify/p-1"))
    await choose(paystack, made, "pay")
    paid = check("get", "/transaction/verify/{reference}", await paystack.client.get("/transaction/verify/p-1"))["data"]
    check("get", "/transaction", await paystack.client.get("/transaction"))
    charge = {"email": PAYER, "amount": 5, "authorization_code": paid["authorization"]["authorization_code"]}
    path = "/transaction/charge_authorization"
    check("post", path, await paystack.post(path, charge))
    refund = check("post", "/refund", await paystack.post("/refund", {"transaction": "p-1", "amount": 400}))["data"]
    check("get", "/refund/{id}", await paystack.client.get(f"/refund/{refund['id']}"))
    check("get", "/refund", await paystack.client.get("/refund"))
    anonymous = await paystack.client.get("/transaction", headers={"Authorization": ""})
    check("get", "/transaction", anonymous)


async def test_paystack_answers_about_money_out(paystack: Merchant, paystack_contract: Contract) -> None:
    check = paystack_contract.check
    await paystack.ask("POST", "topup", currency="NGN", amount=1000)
    check("get", "/balance", await paystack.client.get("/balance"))
    check("get", "/bank", await paystack.client.get("/bank", params={"currency": "NGN"}))
    asked = {"account_number": "0123456789", "bank_code": "058"}
    check("get", "/bank/resolve", await paystack.client.get("/bank/resolve", params=asked))
    body = {"type": "nuban", "name": "Ada", "bank_code": "058", "currency": "NGN", "account_number": "1234567890"}
    check("post", "/transferrecipient", await paystack.post("/transferrecipient", body))
    made = check("post", "/transfer", await send(paystack, 400))["data"]
    check("get", "/transfer/verify/{reference}", await paystack.client.get(f"/transfer/verify/{made['reference']}"))
    check("get", "/transfer/{code}", await paystack.client.get(f"/transfer/{made['transfer_code']}"))
    check("get", "/transfer", await paystack.client.get("/transfer"))
    check("get", "/transfer/{code}", await paystack.client.get("/transfer/TRF_nobody"))
    anonymous = await paystack.client.get("/balance", headers={"Authorization": ""})
    check("get", "/balance", anonymous)


def sample_events() -> dict[str, dict[str, Any]]:
    samples = json.loads((CONTRACTS / "paystack.webhook-events.json").read_text())["events"]
    return {sample["event"]: sample["data"] for sample in samples.values() if "event" in sample}


async def test_paystack_events_of_transfers_have_the_fields_of_the_samples(
    paystack: Merchant, receiver: Receiver
) -> None:
    known = sample_events()
    await paystack.ask("POST", "topup", currency="NGN", amount=1000)
    slow = await recipient(paystack, "9003567890")
    ends = {"payout-failed-000001": ["failed"], "payout-returned-0001": ["succeeded", "returned"]}
    for reference, outcomes in ends.items():
        await send(paystack, 100, reference=reference, recipient=slow)
        for outcome in outcomes:
            await paystack.ask("POST", "settle", transfer=reference, outcome=outcome)
    events = [event.json for event in await receiver.take("payout-", 3)]
    assert {event["event"] for event in events} == {"transfer.failed", "transfer.success", "transfer.reversed"}
    for event in events:
        sample, data = known[event["event"]], event["data"]
        assert set(sample) - set(data) == set(), event["event"]
        for part in ("recipient", "integration", "session"):
            assert set(sample[part]) - set(data[part]) == set(), (event["event"], part)


async def test_paystack_events_have_the_fields_of_the_samples(paystack: Merchant, receiver: Receiver) -> None:
    known = sample_events()
    data = await begin(paystack, 1000)
    await choose(paystack, data, "pay")
    await paystack.post("/refund", {"transaction": data["reference"], "amount": 400})
    await eventually(lambda: len({e.json["event"] for e in receiver.of(data["reference"])}) == 3)
    for event in receiver.of(data["reference"]):
        assert set(known[event.json["event"]]) - set(event.json["data"]) == set(), event.json["event"]
