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


async def test_paystack_events_have_the_fields_of_the_samples(paystack: Merchant, receiver: Receiver) -> None:
    samples = json.loads((CONTRACTS / "paystack.webhook-events.json").read_text())["events"]
    known = {sample["event"]: sample["data"] for sample in samples.values() if "event" in sample}
    data = await begin(paystack, 1000)
    await choose(paystack, data, "pay")
    await paystack.post("/refund", {"transaction": data["reference"], "amount": 400})
    await eventually(lambda: len({e.json["event"] for e in receiver.of(data["reference"])}) == 3)
    for event in receiver.of(data["reference"]):
        assert set(known[event.json["event"]]) - set(event.json["data"]) == set(), event.json["event"]
