"""Who may tell us something: the vendors' known answers pass, a single changed byte does not."""

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.gateways.paystack import PaystackRail
from activities.gateways.protocols import SignatureRefused, WebhookEvent
from activities.gateways.stripe import StripeRail
from tests.gateways.contract import load

CLIENT = httpx.AsyncClient()
NOW = datetime.fromtimestamp(1_700_000_000, UTC)

STRIPE_BODY = (
    b'{"id":"evt_1","object":"event","type":"charge.succeeded","data":{"object":{"id":"ch_1","object":"charge"}}}'
)
STRIPE_HEX = "627479781be7434352ee4c71fc0122e4b1f61e2cdcfeb5c0c9595e197f7d0957"
PAYSTACK_BODY = b'{"event":"charge.success","data":{"id":1,"reference":"r-1","amount":500000}}'
PAYSTACK_HEX = (
    "2eb6d790cdd9e6ea6482a0ccb199c95ad26fce49e49ed5a1c7f7160260c81227"
    "d6fe9d63702fab04898624448a9c2431a344ee43ede2cf09223a5151b8cc82ce"
)


def stripe_reads(
    raw: bytes = STRIPE_BODY, header: str | None = None, now: datetime = NOW, secret: str = "whsec_kat"
) -> WebhookEvent:
    rail = StripeRail(CLIENT, "http://unused.test", "sk_test_kat", secret)
    return rail.verify_webhook(raw, {} if header is None else {"stripe-signature": header}, now)


def paystack_reads(raw: bytes = PAYSTACK_BODY, header: str | None = None, key: str = "sk_test_kat") -> WebhookEvent:
    rail = PaystackRail(CLIENT, "http://unused.test", key)
    return rail.verify_webhook(raw, {} if header is None else {"x-paystack-signature": header}, NOW)


def stripe_sign(raw: bytes, secret: str = "whsec_kat", t: str = "1700000000") -> str:
    return f"t={t},v1={hmac.new(secret.encode(), t.encode() + b'.' + raw, hashlib.sha256).hexdigest()}"


def paystack_sign(raw: bytes, key: str = "sk_test_kat") -> str:
    return hmac.new(key.encode(), raw, hashlib.sha512).hexdigest()


def refusal(call) -> str:
    with pytest.raises(SignatureRefused) as refused:
        call()
    return refused.value.reason


def test_known_answers_pass() -> None:
    assert stripe_reads(header=f"t=1700000000,v1={STRIPE_HEX}") == WebhookEvent(
        event_id="evt_1", kind="charge.succeeded"
    )
    assert paystack_reads(header=PAYSTACK_HEX) == WebhookEvent(
        event_id="charge.success:1:", kind="charge.success", reference="r-1", provider_id="1"
    )


@settings(max_examples=600)
@given(st.integers(0, len(STRIPE_BODY) - 1), st.integers(1, 255))
def test_stripe_body_with_one_byte_changed_is_refused(position: int, flip: int) -> None:
    raw = bytearray(STRIPE_BODY)
    raw[position] ^= flip
    assert refusal(lambda: stripe_reads(bytes(raw), f"t=1700000000,v1={STRIPE_HEX}")) == "mismatch"


@settings(max_examples=600)
@given(st.integers(0, len(STRIPE_HEX) + 15), st.characters(min_codepoint=32, max_codepoint=126))
def test_stripe_header_with_one_character_changed_is_refused(position: int, char: str) -> None:
    header = f"t=1700000000,v1={STRIPE_HEX}"
    changed = header[:position] + char + header[position + 1 :]
    if changed != header:
        assert refusal(lambda: stripe_reads(header=changed)) in {"mismatch", "malformed"}


@settings(max_examples=600)
@given(st.integers(0, len(PAYSTACK_BODY) - 1), st.integers(1, 255))
def test_paystack_body_with_one_byte_changed_is_refused(position: int, flip: int) -> None:
    raw = bytearray(PAYSTACK_BODY)
    raw[position] ^= flip
    assert refusal(lambda: paystack_reads(bytes(raw), PAYSTACK_HEX)) == "mismatch"


@settings(max_examples=600)
@given(st.integers(0, 127), st.characters(min_codepoint=32, max_codepoint=126))
def test_paystack_signature_with_one_character_changed_is_refused(position: int, char: str) -> None:
    changed = PAYSTACK_HEX[:position] + char + PAYSTACK_HEX[position + 1 :]
    if changed != PAYSTACK_HEX:
        assert refusal(lambda: paystack_reads(header=changed)) in {"mismatch", "malformed"}


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_stripe_timestamp_within_five_minutes_passes(seconds: int) -> None:
    assert (
        stripe_reads(header=f"t=1700000000,v1={STRIPE_HEX}", now=NOW + timedelta(seconds=seconds)).event_id == "evt_1"
    )


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_stripe_timestamp_older_or_from_the_future_is_stale(seconds: int) -> None:
    header = f"t=1700000000,v1={STRIPE_HEX}"
    assert refusal(lambda: stripe_reads(header=header, now=NOW + timedelta(seconds=seconds))) == "stale"


def test_stripe_accepts_any_of_several_signatures() -> None:
    header = f"t=1700000000,v1={'0' * 64},v1={STRIPE_HEX},v0=abc"
    assert stripe_reads(header=header).event_id == "evt_1"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=1700000000",
        f"v1={STRIPE_HEX}",
        f"t=,v1={STRIPE_HEX}",
        f"t=-1700000000,v1={STRIPE_HEX}",
        f"t=1700000000,t=1700000000,v1={STRIPE_HEX}",
        f"t=1700000000,v1={STRIPE_HEX}, t=1700000000,v1={STRIPE_HEX}",
        f"t=١٧٠٠٠٠٠٠٠٠,v1={STRIPE_HEX}",
        f"t=17000000000000,v1={STRIPE_HEX}",
        "t=1700000000,v1=é",
        f"t=1700000000,v1={STRIPE_HEX},garbage",
        "t=1700000000" + ",v1=0" * 17,
    ],
)
def test_stripe_header_that_is_no_signature_is_malformed(header: str) -> None:
    assert refusal(lambda: stripe_reads(header=header)) == "malformed"


def test_stripe_v0_alone_does_not_count() -> None:
    assert refusal(lambda: stripe_reads(header=f"t=1700000000,v0={STRIPE_HEX}")) == "malformed"


@pytest.mark.parametrize("header", ["", "x", PAYSTACK_HEX.upper(), PAYSTACK_HEX + " ", "é" * 128, PAYSTACK_HEX[:-1]])
def test_paystack_header_that_is_no_signature_is_malformed(header: str) -> None:
    assert refusal(lambda: paystack_reads(header=header)) == "malformed"


def test_missing_header() -> None:
    assert refusal(stripe_reads) == "missing"
    assert refusal(paystack_reads) == "missing"


def test_without_a_secret_nothing_passes() -> None:
    assert refusal(lambda: stripe_reads(header=stripe_sign(STRIPE_BODY, secret=""), secret="")) == "unconfigured"
    assert refusal(lambda: paystack_reads(header=paystack_sign(PAYSTACK_BODY, key=""), key="")) == "unconfigured"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"null",
        b'{"id":"evt_1","type":"x"}',
        b'{"id":7,"type":"x","data":{"object":{}}}',
        b'{"id":"evt\\ud800","type":"x","data":{"object":{}}}',
        b'{"id":"evt\\u0000","type":"x","data":{"object":{}}}',
        b'{"id":"evt_1","type":"x","data":{"object":{}},"n":NaN}',
        b"[" * 100_000,
    ],
)
def test_signed_but_unreadable_is_malformed(raw: bytes) -> None:
    assert refusal(lambda: stripe_reads(raw, stripe_sign(raw))) == "malformed"
    assert refusal(lambda: paystack_reads(raw, paystack_sign(raw))) == "malformed"


def test_stripe_event_names_the_payment() -> None:
    def event(kind: str, subject: dict[str, object]) -> WebhookEvent:
        raw = json.dumps({"id": "evt_2", "type": kind, "data": {"object": subject}}).encode()
        return stripe_reads(raw, stripe_sign(raw))

    about_intent = event(
        "payment_intent.succeeded", {"object": "payment_intent", "id": "pi_9", "metadata": {"reference": "r"}}
    )
    assert (about_intent.provider_id, about_intent.reference) == ("pi_9", "r")
    about_refund = event(
        "refund.updated", {"object": "refund", "id": "re_9", "payment_intent": "pi_9", "metadata": {"reference": "rr"}}
    )
    assert (about_refund.provider_id, about_refund.reference) == ("pi_9", "rr")


def test_stripe_sample_event_is_read() -> None:
    fixtures = load("stripe.fixtures.json")["resources"]
    raw = json.dumps(fixtures["event"]).encode()
    event = stripe_reads(raw, stripe_sign(raw))
    assert (event.event_id, event.kind) == (fixtures["event"]["id"], "plan.created")
    for name in ("payment_intent", "charge", "refund", "dispute"):
        raw = json.dumps({"id": "evt_3", "type": f"{name}.x", "data": {"object": fixtures[name]}}).encode()
        expected = fixtures[name]["id"] if name == "payment_intent" else fixtures[name].get("payment_intent")
        assert stripe_reads(raw, stripe_sign(raw)).provider_id == expected


EVENT_PAYMENTS = {
    "charge-dispute-create": ("v3mjfgbnc19v97x", "896467688"),
    "refund-failed": ("T9171231_412325_3be2736c_n6tml", None),
    "refund-needs-attention": ("88bfa94509eb96aa9785641c26cc57cc", None),
    "transaction-successful": ("qTPrJoy9Bx", "302961"),
    "customer-id-failed": (None, None),
    "transfer-successful": ("acv_9ee55786-2323-4760-98e2-6380c9cb3f68", "TRF_v5tip3zx8nna9o78"),
    "transfer-failed": ("1976435206", "TRF_chs98y5rykjb47w"),
    "transfer-reversed": ("jvrjckwenm", "TRF_js075pj9u07f34l"),
}


def test_every_paystack_sample_event_is_read_and_told_apart() -> None:
    samples = load("paystack.webhook-events.json")["events"]
    assert len(samples) == 19
    events = {}
    for name, sample in samples.items():
        raw = json.dumps(sample).encode()
        events[name] = paystack_reads(raw, paystack_sign(raw))
        assert events[name].kind == sample["event"]
    assert len({event.event_id for event in events.values()}) == 19
    for name, (reference, provider_id) in EVENT_PAYMENTS.items():
        assert (events[name].reference, events[name].provider_id) == (reference, provider_id)


def test_two_partial_refunds_are_two_events() -> None:
    def event(amount: int) -> str:
        data = {"status": "pending", "transaction_reference": "r-1", "refund_reference": None, "amount": str(amount)}
        raw = json.dumps({"event": "refund.pending", "data": data}).encode()
        return paystack_reads(raw, paystack_sign(raw)).event_id

    assert event(5) != event(6)
    assert event(5) == event(5)


def test_a_transfer_is_never_taken_for_the_transaction_of_its_number() -> None:
    data = {"id": 302961, "transfer_code": "TRF_1", "reference": "payout-8c1f0e5b0b5d0c9a", "status": "success"}
    raw = json.dumps({"event": "transfer.success", "data": data}).encode()
    event = paystack_reads(raw, paystack_sign(raw))
    assert (event.kind, event.reference, event.provider_id) == ("transfer.success", data["reference"], "TRF_1")
    reversal = json.dumps({"event": "transfer.reversed", "data": data | {"status": "reversed"}}).encode()
    assert paystack_reads(reversal, paystack_sign(reversal)).event_id != event.event_id
