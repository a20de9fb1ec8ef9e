"""What Paystack's answers mean, and what it is asked."""

from datetime import UTC, datetime

import pytest

from activities.gateways.paystack import PaystackRail
from activities.gateways.protocols import PaymentFact, RailNotSent, RailRejected, RailUnknown, RefundFact
from contracts.payment import NextAction
from tests.gateways.provider import ScriptedProvider
from tests.gateways.samples import (
    REFERENCE,
    envelope,
    order,
    paystack_error,
    paystack_refund,
    refund_order,
    transaction,
)

PAGE = envelope(
    {"authorization_url": "https://checkout.example.test/abc", "access_code": "abc", "reference": REFERENCE}
)
DUPLICATE = paystack_error("Duplicate Transaction Reference", code="duplicate_reference")
UNKNOWN_REFERENCE = paystack_error("Transaction reference not found.", code="transaction_not_found")


async def test_start_opens_a_page(paystack: PaystackRail, paystack_api: ScriptedProvider) -> None:
    paystack_api.will_say(PAGE)
    answer = await paystack.start(order(return_url="https://app.example.test/back"))
    assert answer.fact is PaymentFact.REQUIRES_ACTION
    assert answer.next_action == NextAction(kind="redirect", redirect_url="https://checkout.example.test/abc")
    [asked] = paystack_api.asked
    assert (asked.method, asked.path) == ("POST", "/transaction/initialize")
    assert asked.headers["authorization"] == "Bearer sk_test_1"
    assert asked.json == {
        "email": "ada@example.test",
        "amount": 500_000,
        "currency": "NGN",
        "reference": REFERENCE,
        "callback_url": "https://app.example.test/back",
    }


async def test_start_with_a_saved_card_charges_it(paystack: PaystackRail, paystack_api: ScriptedProvider) -> None:
    card = {"authorization_code": "AUTH_1", "reusable": True}
    paystack_api.will_say(envelope(transaction("success", authorization=card)))
    answer = await paystack.start(order(instrument="AUTH_1", off_session=True))
    assert (answer.fact, answer.captured_minor, answer.provider_id) == (PaymentFact.CAPTURED, 500_000, "302961")
    assert (answer.instrument, answer.customer) == ("AUTH_1", "CUS_1")
    [asked] = paystack_api.asked
    assert asked.path == "/transaction/charge_authorization"
    assert asked.json["authorization_code"] == "AUTH_1"


async def test_a_card_paused_for_consent_asks_the_payer(paystack: PaystackRail, paystack_api: ScriptedProvider) -> None:
    paused = {"paused": True, "reference": REFERENCE, "authorization_url": "https://checkout.example.test/p"}
    paystack_api.will_say(envelope(paused))
    answer = await paystack.start(order(instrument="AUTH_1"))
    assert answer.next_action == NextAction(kind="redirect", redirect_url="https://checkout.example.test/p")


async def test_holding_is_refused_before_anything_is_sent(
    paystack: PaystackRail, paystack_api: ScriptedProvider
) -> None:
    with pytest.raises(RailRejected, match="authorize_unsupported"):
        await paystack.start(order(capture_now=False))
    with pytest.raises(RailRejected, match="capture_unsupported"):
        await paystack.capture(provider_id="1", amount_minor=1, currency="NGN", key="k")
    assert paystack_api.asked == []


@pytest.mark.parametrize("duplicate", [DUPLICATE, paystack_error("Duplicate Transaction Reference")])
@pytest.mark.parametrize(
    ("status", "fact"), [("success", PaymentFact.CAPTURED), ("abandoned", PaymentFact.REQUIRES_ACTION)]
)
async def test_a_repeated_start_finds_the_first(
    paystack: PaystackRail, paystack_api: ScriptedProvider, duplicate, status: str, fact: PaymentFact
) -> None:
    paystack_api.will_say(duplicate, 400).will_say(envelope(transaction(status)))
    answer = await paystack.start(order())
    assert (answer.fact, answer.next_action) == (fact, None)
    assert paystack_api.asked[1].path == f"/transaction/verify/{REFERENCE}"


async def test_a_duplicate_that_cannot_be_found_stays_unknown(
    paystack: PaystackRail, paystack_api: ScriptedProvider
) -> None:
    paystack_api.will_say(DUPLICATE, 400).will_say(UNKNOWN_REFERENCE, 400)
    with pytest.raises(RailUnknown, match="duplicate_but_absent"):
        await paystack.start(order())


@pytest.mark.parametrize("url", [None, "javascript:alert(1)", "/relative", "https://a b", 7, ""])
async def test_a_page_address_must_be_one(paystack: PaystackRail, paystack_api: ScriptedProvider, url) -> None:
    paystack_api.will_say(envelope({"authorization_url": url, "access_code": "abc", "reference": REFERENCE}))
    with pytest.raises(RailUnknown, match="unreadable_answer"):
        await paystack.start(order())


@pytest.mark.parametrize(
    ("status", "fact", "captured", "refunded", "code"),
    [
        ("success", PaymentFact.CAPTURED, 500_000, 0, None),
        ("reversed", PaymentFact.CAPTURED, 500_000, 500_000, None),
        ("failed", PaymentFact.DECLINED, 0, 0, "insufficient_funds"),
        ("abandoned", PaymentFact.REQUIRES_ACTION, 0, 0, None),
        ("ongoing", PaymentFact.PENDING, 0, 0, None),
        ("pending", PaymentFact.PENDING, 0, 0, None),
        ("processing", PaymentFact.PENDING, 0, 0, None),
        ("queued", PaymentFact.PENDING, 0, 0, None),
    ],
)
async def test_status_means(
    paystack: PaystackRail, paystack_api: ScriptedProvider, status, fact, captured, refunded, code
) -> None:
    paystack_api.will_say(envelope(transaction(status, gateway_response="Insufficient Funds")))
    answer = await paystack.look_up(reference=REFERENCE, provider_id=None)
    assert (answer.fact, answer.captured_minor, answer.refunded_minor, answer.code) == (fact, captured, refunded, code)
    assert (answer.amount_minor, answer.currency, answer.provider_id) == (500_000, "NGN", "302961")
    assert answer.created_at == datetime(2016, 9, 30, 21, 9, 56, tzinfo=UTC)


async def test_digits_in_text_are_an_amount(paystack: PaystackRail, paystack_api: ScriptedProvider) -> None:
    paystack_api.will_say(envelope(transaction("success", amount="500000", id="302961")))
    answer = await paystack.look_up(reference=REFERENCE, provider_id=None)
    assert (answer.amount_minor, answer.provider_id) == (500_000, "302961")


@pytest.mark.parametrize("amount", [500000.0, True, None, "5e5", "٥", "-5", -5, ""])
async def test_an_amount_of_the_wrong_type_is_unreadable(
    paystack: PaystackRail, paystack_api: ScriptedProvider, amount
) -> None:
    paystack_api.will_say(envelope(transaction("success", amount=amount)))
    with pytest.raises(RailUnknown, match="unreadable_answer"):
        await paystack.start(order(instrument="AUTH_1"))


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, UNKNOWN_REFERENCE), (400, UNKNOWN_REFERENCE), (400, paystack_error("Transaction reference not found"))],
)
async def test_an_unknown_reference_is_absent(
    paystack: PaystackRail, paystack_api: ScriptedProvider, status, body
) -> None:
    paystack_api.will_say(body, status)
    assert (await paystack.look_up(reference=REFERENCE, provider_id=None)).fact is PaymentFact.ABSENT


@pytest.mark.parametrize(
    "body",
    [
        {"detail": "Not Found"},
        {},
        {"status": True, "data": None},
        paystack_error("The requested endpoint does not exist"),
    ],
)
async def test_only_paystack_itself_can_say_absent(
    paystack: PaystackRail, paystack_api: ScriptedProvider, body
) -> None:
    paystack_api.will_say(body, 404)
    with pytest.raises(RailNotSent):
        await paystack.look_up(reference=REFERENCE, provider_id=None)


async def test_an_answer_about_another_payment_is_not_believed(
    paystack: PaystackRail, paystack_api: ScriptedProvider
) -> None:
    paystack_api.will_say(envelope(transaction("success", reference="somebody-else")))
    with pytest.raises(RailNotSent, match="unreadable_answer"):
        await paystack.look_up(reference=REFERENCE, provider_id=None)


@pytest.mark.parametrize(
    ("status", "fact"),
    [
        ("success", PaymentFact.CAPTURED),
        ("abandoned", PaymentFact.VOIDED),
        ("failed", PaymentFact.VOIDED),
        ("pending", PaymentFact.PENDING),
    ],
)
async def test_void_says_whether_money_was_taken(
    paystack: PaystackRail, paystack_api: ScriptedProvider, status: str, fact: PaymentFact
) -> None:
    paystack_api.will_say(envelope(transaction(status))).will_say(envelope(transaction(status)))
    assert (await paystack.void(provider_id=None, key="k", reference=REFERENCE)).fact is fact
    assert (await paystack.void(provider_id="302961", key="k")).fact is fact
    assert [asked.path for asked in paystack_api.asked] == [f"/transaction/verify/{REFERENCE}", "/transaction/302961"]
    assert {asked.method for asked in paystack_api.asked} == {"GET"}


async def test_void_of_a_known_id_never_takes_absence_for_an_answer(
    paystack: PaystackRail, paystack_api: ScriptedProvider
) -> None:
    paystack_api.will_say(UNKNOWN_REFERENCE, 404)
    with pytest.raises(RailUnknown, match="known_but_absent"):
        await paystack.void(provider_id="302961", key="k")


async def test_refund_looks_before_it_pays(paystack: PaystackRail, paystack_api: ScriptedProvider) -> None:
    made = paystack_refund(transaction={"id": 302961})
    paystack_api.will_say(envelope([paystack_refund(merchant_note="by ops")])).will_say(envelope([])).will_say(
        envelope(made)
    )
    answer = await paystack.refund(refund_order())
    assert (answer.fact, answer.provider_id, answer.payment_provider_id) == (RefundFact.PENDING, "77", "302961")
    assert answer.reference == refund_order().reference
    looked, _, paid = paystack_api.asked
    assert (looked.method, looked.params["transaction"]) == ("GET", "302961")
    assert paid.json == {
        "transaction": REFERENCE,
        "amount": 200_000,
        "currency": "NGN",
        "merchant_note": refund_order().reference,
    }


async def test_a_repeated_refund_finds_the_first(paystack: PaystackRail, paystack_api: ScriptedProvider) -> None:
    paystack_api.will_say(envelope([paystack_refund("processed")], meta={"pageCount": 1}))
    assert (await paystack.refund(refund_order())).fact is RefundFact.SUCCEEDED
    assert [asked.method for asked in paystack_api.asked] == ["GET"]


@pytest.mark.parametrize(
    ("status", "fact", "code"),
    [
        ("pending", RefundFact.PENDING, None),
        ("processing", RefundFact.PENDING, None),
        ("needs-attention", RefundFact.PENDING, "needs-attention"),
        ("processed", RefundFact.SUCCEEDED, None),
        ("failed", RefundFact.FAILED, "failed"),
    ],
)
async def test_refund_means(paystack: PaystackRail, paystack_api: ScriptedProvider, status, fact, code) -> None:
    paystack_api.will_say(envelope(paystack_refund(status)))
    answer = await paystack.look_up_refund(refund_order(), refund_provider_id="77")
    assert (answer.fact, answer.code, answer.amount_minor) == (fact, code, 200_000)


async def test_lists_hold_strangers_and_pages(paystack: PaystackRail, paystack_api: ScriptedProvider) -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    stranger = transaction("success", id=5, reference="made-in-the-dashboard")
    paystack_api.will_say(envelope([transaction("success"), stranger], meta={"pageCount": 2, "perPage": "100"}))
    page = await paystack.list_payments(since=since, cursor=None)
    assert [p.reference for p in page.payments] == [REFERENCE, "made-in-the-dashboard"]
    assert page.next_cursor == "2"
    assert paystack_api.asked[0].params["from"] == "2026-01-01T00:00:00.000Z"
    paystack_api.will_say(envelope([], meta={"pageCount": 2}))
    assert (await paystack.list_payments(since=since, cursor=page.next_cursor)).next_cursor is None
    assert paystack_api.asked[1].params["page"] == "2"
    paystack_api.will_say(envelope([paystack_refund(merchant_note="Refund for transaction 1 by ops@example.test")]))
    refunds = await paystack.list_refunds(since=since, cursor=None)
    assert (refunds.refunds[0].reference, refunds.next_cursor) == (None, "2")


@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        (401, paystack_error("Invalid key"), RailRejected, "unauthorized"),
        (400, paystack_error("Bad", type="validation_error", code="invalid_params"), RailRejected, "invalid_params"),
        (400, paystack_error("Bad: ada@example.test"), RailRejected, "http_400"),
        (400, {"oops": 1}, RailUnknown, "unreadable_answer"),
        (200, paystack_error("no", data=PAGE["data"]), RailUnknown, "unreadable_answer"),
    ],
)
async def test_refusals(paystack: PaystackRail, paystack_api: ScriptedProvider, status, body, error, code) -> None:
    paystack_api.will_say(body, status)
    with pytest.raises(error) as refused:
        await paystack.start(order())
    assert (type(refused.value), refused.value.code) == (error, code)
    assert "ada@example.test" not in str(refused.value)
