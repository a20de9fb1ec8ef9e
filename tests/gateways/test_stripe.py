"""What Stripe's answers mean, and what it is asked."""

from datetime import UTC, datetime, timedelta

import pytest

from activities.gateways.protocols import PaymentFact, RailNotSent, RailRejected, RailUnknown, RefundFact
from activities.gateways.stripe import StripeRail
from activities.gateways.stripe_wire import read_intent
from contracts.payment import NextAction
from tests.gateways.contract import load
from tests.gateways.provider import ScriptedProvider
from tests.gateways.samples import REFERENCE, intent, order, refund_order, stripe_error, stripe_list, stripe_refund

REDIRECT = {"type": "redirect_to_url", "redirect_to_url": {"url": "https://bank.example.test/3ds"}}
DECLINE = {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds"}
TOKEN = NextAction(kind="client_token", client_token="pi_1_secret_x")

MEANINGS = [
    (intent("requires_payment_method"), PaymentFact.REQUIRES_ACTION, TOKEN, None),
    (intent("requires_payment_method", last_payment_error=DECLINE), PaymentFact.DECLINED, None, "insufficient_funds"),
    (intent("requires_confirmation"), PaymentFact.REQUIRES_ACTION, TOKEN, None),
    (
        intent("requires_action", next_action=REDIRECT),
        PaymentFact.REQUIRES_ACTION,
        NextAction(kind="redirect", redirect_url="https://bank.example.test/3ds"),
        None,
    ),
    (intent("requires_action", next_action={"type": "use_stripe_sdk"}), PaymentFact.REQUIRES_ACTION, TOKEN, None),
    (intent("processing"), PaymentFact.PENDING, None, None),
    (intent("requires_capture"), PaymentFact.AUTHORIZED, None, None),
    (intent("succeeded"), PaymentFact.CAPTURED, None, None),
    (intent("canceled", cancellation_reason="automatic"), PaymentFact.EXPIRED, None, None),
    (intent("canceled", cancellation_reason="requested_by_customer"), PaymentFact.VOIDED, None, None),
    (intent("canceled"), PaymentFact.VOIDED, None, None),
]


@pytest.mark.parametrize(("body", "fact", "action", "code"), MEANINGS)
async def test_status_means(stripe: StripeRail, stripe_api: ScriptedProvider, body, fact, action, code) -> None:
    stripe_api.will_say(body)
    answer = await stripe.look_up(reference=REFERENCE, provider_id="pi_1")
    assert (answer.fact, answer.next_action, answer.code) == (fact, action, code)
    assert (answer.amount_minor, answer.currency, answer.reference) == (500_000, "NGN", REFERENCE)
    assert answer.captured_minor == (500_000 if fact is PaymentFact.CAPTURED else 0)
    assert answer.created_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


async def test_start_without_instrument_gives_a_client_token(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    stripe_api.will_say(intent("requires_payment_method"))
    answer = await stripe.start(order(capture_now=False, return_url="https://app.example.test/back"))
    assert answer.next_action == TOKEN
    [asked] = stripe_api.asked
    assert (asked.method, asked.path) == ("POST", "/v1/payment_intents")
    assert asked.headers["authorization"] == "Bearer sk_test_1"
    assert asked.headers["stripe-version"] == "2023-08-16"
    assert asked.headers["idempotency-key"] == order().key
    assert asked.form == {
        "amount": "500000",
        "currency": "ngn",
        "capture_method": "manual",
        "metadata[reference]": REFERENCE,
        "automatic_payment_methods[enabled]": "true",
    }


async def test_start_is_the_same_bytes_every_time(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    stripe_api.will_say(intent("succeeded")).will_say(intent("succeeded"))
    for _ in range(2):
        await stripe.start(order(instrument="pm_card_visa", return_url="https://app.example.test/back"))
    first, second = stripe_api.asked
    assert first.body == second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


async def test_start_with_instrument_confirms(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    stripe_api.will_say(intent("requires_capture", payment_method="pm_9", customer="cus_1"))
    answer = await stripe.start(
        order(
            capture_now=False,
            instrument="pm_card_visa",
            customer="cus_1",
            save_instrument=True,
            return_url="https://a.test/",
        )
    )
    assert (answer.fact, answer.instrument, answer.customer) == (PaymentFact.AUTHORIZED, "pm_9", "cus_1")
    form = stripe_api.asked[0].form
    assert form["confirm"] == "true"
    assert form["return_url"] == "https://a.test/"
    assert form["setup_future_usage"] == "off_session"
    assert form["customer"] == "cus_1"
    assert "off_session" not in form


async def test_off_session_charge_never_asks_for_a_redirect(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    stripe_api.will_say(intent("succeeded"))
    await stripe.start(
        order(instrument="pm_9", customer="cus_1", off_session=True, save_instrument=True, return_url="https://a.test/")
    )
    form = stripe_api.asked[0].form
    assert form["off_session"] == "true"
    assert form["automatic_payment_methods[allow_redirects]"] == "never"
    assert "return_url" not in form
    assert "setup_future_usage" not in form


async def test_saving_an_instrument_makes_a_customer_first(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    stripe_api.will_say({"id": "cus_7", "object": "customer"}).will_say(intent("succeeded", customer="cus_7"))
    answer = await stripe.start(order(instrument="pm_card_visa", save_instrument=True))
    assert answer.customer == "cus_7"
    made, paid = stripe_api.asked
    assert (made.path, made.headers["idempotency-key"]) == ("/v1/customers", order().key + "-customer")
    assert paid.form["customer"] == "cus_7"
    assert paid.headers["idempotency-key"] == order().key


async def test_a_lost_customer_answer_charges_nothing(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    stripe_api.will_say({}, status=500)
    with pytest.raises(RailNotSent):
        await stripe.start(order(instrument="pm_card_visa", save_instrument=True))


async def test_a_declined_card_is_an_answer(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    declined = intent("requires_payment_method", last_payment_error=DECLINE)
    stripe_api.will_say({"error": DECLINE | {"payment_intent": declined}}, status=402)
    answer = await stripe.start(order(instrument="pm_card_visa"))
    assert (answer.fact, answer.code, answer.provider_id) == (PaymentFact.DECLINED, "insufficient_funds", "pi_1")
    assert answer.next_action is None


async def test_an_answer_about_another_payment_is_not_believed(
    stripe: StripeRail, stripe_api: ScriptedProvider
) -> None:
    stripe_api.will_say(intent("succeeded", metadata={"reference": "somebody-else"}))
    with pytest.raises(RailUnknown, match="unreadable_answer"):
        await stripe.start(order(instrument="pm_card_visa"))
    stripe_api.will_say(intent("succeeded", id="pi_2"))
    with pytest.raises(RailNotSent, match="unreadable_answer"):
        await stripe.look_up(reference=REFERENCE, provider_id="pi_1")


@pytest.mark.parametrize(
    ("status", "body", "headers", "error", "code"),
    [
        (400, stripe_error("idempotency_error"), {}, RailUnknown, "idempotency_error"),
        (400, stripe_error(code="amount_too_small"), {}, RailRejected, "amount_too_small"),
        (400, stripe_error(code="bad code: ada@example.test"), {}, RailRejected, "invalid_request_error"),
        (401, stripe_error(), {}, RailRejected, "unauthorized"),
        (
            409,
            stripe_error("idempotency_error", code="idempotency_key_in_use"),
            {},
            RailUnknown,
            "idempotency_key_in_use",
        ),
        (409, stripe_error(code="lock_timeout"), {}, RailNotSent, "lock_timeout"),
        (400, stripe_error(code="lock_timeout"), {"Stripe-Should-Retry": "true"}, RailNotSent, "lock_timeout"),
        (402, stripe_error("card_error"), {}, None, "card_error"),
    ],
)
async def test_refusals(stripe: StripeRail, stripe_api: ScriptedProvider, status, body, headers, error, code) -> None:
    stripe_api.will_say(body, status, headers)
    if error is None:
        assert (await stripe.start(order())).code == code
        return
    with pytest.raises(error) as refused:
        await stripe.start(order())
    assert type(refused.value) is error
    assert refused.value.code == code
    assert "ada@example.test" not in str(refused.value)


async def test_look_up_by_reference(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    stripe_api.will_say(stripe_list(intent("succeeded", metadata={"reference": "other"}), intent("succeeded")))
    assert (await stripe.look_up(reference=REFERENCE, provider_id=None)).provider_id == "pi_1"
    assert stripe_api.asked[0].params["query"] == f"metadata['reference']:'{REFERENCE}'"
    stripe_api.will_say(stripe_list())
    assert (await stripe.look_up(reference=REFERENCE, provider_id=None)).fact is PaymentFact.ABSENT


async def test_two_payments_under_one_reference_stay_unknown(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    stripe_api.will_say(stripe_list(intent("succeeded"), intent("succeeded", id="pi_2")))
    with pytest.raises(RailUnknown, match="ambiguous_reference"):
        await stripe.look_up(reference=REFERENCE, provider_id=None)


async def test_a_reference_cannot_rewrite_the_search(stripe: StripeRail) -> None:
    with pytest.raises(RailNotSent, match="bad_reference"):
        await stripe.look_up(reference="x' OR status:'succeeded", provider_id=None)


async def test_an_id_stays_one_path_segment(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    stripe_api.will_say(stripe_error(code="resource_missing"), 404)
    answer = await stripe.look_up(reference=REFERENCE, provider_id="pi_1/cancel#x")
    assert answer.fact is PaymentFact.ABSENT
    assert stripe_api.asked[0].path == "/v1/payment_intents/pi_1%2Fcancel%23x"


async def test_an_answer_beyond_the_size_limit_is_unreadable(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    stripe_api.will_say(intent("succeeded", padding="x" * 5_000_000)).will_say(
        intent("succeeded", padding="x" * 1_000_000)
    )
    with pytest.raises(RailUnknown, match="unreadable_answer"):
        await stripe.start(order())
    assert (await stripe.start(order())).fact is PaymentFact.CAPTURED


async def test_only_stripe_itself_can_say_absent(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    stripe_api.will_say({"detail": "Not Found"}, 404)
    with pytest.raises(RailNotSent):
        await stripe.look_up(reference=REFERENCE, provider_id="pi_1")


async def test_capture_takes_the_amount(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    stripe_api.will_say(intent("succeeded"))
    answer = await stripe.capture(provider_id="pi_1", amount_minor=500_000, currency="NGN", key="k")
    assert (answer.fact, answer.captured_minor) == (PaymentFact.CAPTURED, 500_000)
    [asked] = stripe_api.asked
    assert (asked.path, asked.form) == ("/v1/payment_intents/pi_1/capture", {"amount_to_capture": "500000"})
    assert asked.headers["idempotency-key"] == "k"


REFUSED = stripe_error(code="payment_intent_unexpected_state")


@pytest.mark.parametrize("verb", ["capture", "void"])
@pytest.mark.parametrize(
    ("truth", "fact"),
    [
        (intent("succeeded"), PaymentFact.CAPTURED),
        (intent("canceled", cancellation_reason="automatic"), PaymentFact.EXPIRED),
        (intent("canceled"), PaymentFact.VOIDED),
        (intent("processing"), PaymentFact.PENDING),
        (intent("requires_capture"), None),
        (intent("requires_action"), None),
    ],
)
async def test_a_refused_change_answers_the_truth(
    stripe: StripeRail, stripe_api: ScriptedProvider, verb: str, truth, fact: PaymentFact | None
) -> None:
    stripe_api.will_say(REFUSED, 400).will_say(truth)

    async def change():
        if verb == "void":
            return await stripe.void(provider_id="pi_1", key="k")
        return await stripe.capture(provider_id="pi_1", amount_minor=500_000, currency="NGN", key="k")

    if fact is None:
        with pytest.raises(RailRejected, match="payment_intent_unexpected_state"):
            await change()
    else:
        assert (await change()).fact is fact


async def test_void_by_reference_finds_the_payment_first(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    stripe_api.will_say(stripe_list(intent("requires_capture"))).will_say(intent("canceled"))
    assert (await stripe.void(provider_id=None, key="k", reference=REFERENCE)).fact is PaymentFact.VOIDED
    assert stripe_api.asked[1].path == "/v1/payment_intents/pi_1/cancel"
    stripe_api.will_say(stripe_list())
    assert (await stripe.void(provider_id=None, key="k", reference=REFERENCE)).fact is PaymentFact.ABSENT


@pytest.mark.parametrize(
    ("status", "fact", "code"),
    [
        ("succeeded", RefundFact.SUCCEEDED, None),
        ("pending", RefundFact.PENDING, None),
        ("requires_action", RefundFact.PENDING, None),
        ("failed", RefundFact.FAILED, "expired_or_canceled_card"),
        ("canceled", RefundFact.FAILED, "canceled"),
    ],
)
async def test_refund_means(stripe: StripeRail, stripe_api: ScriptedProvider, status, fact, code) -> None:
    reason = "expired_or_canceled_card" if status == "failed" else None
    stripe_api.will_say(stripe_refund(status, failure_reason=reason))
    answer = await stripe.refund(refund_order(provider_id="pi_1"))
    assert (answer.fact, answer.code, answer.provider_id, answer.payment_provider_id) == (fact, code, "re_1", "pi_1")
    assert stripe_api.asked[0].form == {
        "payment_intent": "pi_1",
        "amount": "200000",
        "metadata[reference]": refund_order().reference,
    }
    assert stripe_api.asked[0].headers["idempotency-key"] == refund_order().key


async def test_refund_refused_as_done_may_be_our_own(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    used_up = stripe_error(code="charge_already_refunded")
    stripe_api.will_say(used_up, 400).will_say(stripe_list(stripe_refund()))
    assert (await stripe.refund(refund_order(provider_id="pi_1"))).fact is RefundFact.SUCCEEDED
    stripe_api.will_say(used_up, 400).will_say(stripe_list(stripe_refund(metadata={})))
    with pytest.raises(RailRejected, match="charge_already_refunded"):
        await stripe.refund(refund_order(provider_id="pi_1"))


async def test_look_up_refund_reads_every_page(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    stripe_api.will_say(stripe_list(stripe_refund(id="re_0", metadata={}), has_more=True)).will_say(
        stripe_list(stripe_refund())
    )
    answer = await stripe.look_up_refund(refund_order(provider_id="pi_1"), refund_provider_id=None)
    assert answer.provider_id == "re_1"
    assert stripe_api.asked[1].params["starting_after"] == "re_0"


async def test_lists_hold_strangers_and_pages(stripe: StripeRail, stripe_api: ScriptedProvider) -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    charge = {"object": "charge", "amount_refunded": 200_000}
    stripe_api.will_say(
        stripe_list(
            intent("succeeded", latest_charge=charge), intent("succeeded", id="pi_x", metadata={}), has_more=True
        )
    )
    page = await stripe.list_payments(since=since, cursor=None)
    assert [(p.reference, p.refunded_minor) for p in page.payments] == [(REFERENCE, 200_000), (None, 0)]
    assert page.next_cursor == "pi_x"
    assert stripe_api.asked[0].params["created[gte]"] == str(int(since.timestamp()))
    stripe_api.will_say(stripe_list(stripe_refund()))
    refunds = await stripe.list_refunds(since=since, cursor="re_9")
    assert (len(refunds.refunds), refunds.next_cursor) == (1, None)
    assert stripe_api.asked[1].params["starting_after"] == "re_9"


def test_an_amount_ours_cannot_express_is_shown_as_such() -> None:
    answer = read_intent(intent("succeeded", currency="isk", amount=550, amount_received=550))
    assert (answer.fact, answer.amount_minor, answer.captured_minor) == (PaymentFact.CAPTURED, None, 0)
    assert answer.code == "amount_not_expressible"


def test_the_vendors_fixture_is_read() -> None:
    body = load("stripe.fixtures.json")["resources"]["payment_intent"]
    answer = read_intent(body)
    assert (answer.provider_id, answer.amount_minor, answer.currency) == (body["id"], 1099, "USD")


@pytest.mark.parametrize("amount", ["500000", 500000.0, True, None, -1, 10**30])
async def test_an_amount_of_the_wrong_type_is_unreadable(
    stripe: StripeRail, stripe_api: ScriptedProvider, amount
) -> None:
    stripe_api.will_say(intent("succeeded", amount=amount))
    with pytest.raises(RailUnknown, match="unreadable_answer"):
        await stripe.start(order())


def test_capabilities() -> None:
    assert StripeRail.capabilities.authorize
    assert StripeRail.capabilities.authorization_lifetime == timedelta(days=7)
    assert timedelta(0) < StripeRail.capabilities.replay_lifetime < timedelta(hours=24)
