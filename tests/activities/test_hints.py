"""Which webhooks need no look-up, because they announce what is known, and which must not be taken for such."""

from uuid import uuid4

import pytest

from activities.hints import tells_nothing_new, tells_nothing_new_of
from domain.payment import AttemptStatus
from domain.payout import PayoutStatus
from models.payment import PaymentAttempt
from models.payout import Payout
from models.webhook import InboxEvent

A = AttemptStatus


def _event(provider: str, kind: str, provider_id: str | None = "pi_1") -> InboxEvent:
    return InboxEvent(
        tenant_id=uuid4(), mode="test", account_id="acc", provider=provider, event_id="evt_1", kind=kind,
        reference="ch-1", provider_id=provider_id, raw=b"{}",
    )  # fmt: skip


def _attempt(status: AttemptStatus, provider_id: str | None = "pi_1", **minor: int) -> PaymentAttempt:
    return PaymentAttempt.model_construct(reference="ch-1", status=status, provider_id=provider_id, **minor)


@pytest.mark.parametrize(
    ("provider", "kind", "status"),
    [
        ("stripe", "payment_intent.amount_capturable_updated", A.AUTHORIZED),
        ("stripe", "payment_intent.amount_capturable_updated", A.CAPTURED),
        ("stripe", "payment_intent.succeeded", A.CAPTURED),
        ("paystack", "charge.success", A.CAPTURED),
        ("stripe", "payment_intent.canceled", A.VOIDED),
    ],
)
def test_what_is_known_is_no_news(provider: str, kind: str, status: AttemptStatus) -> None:
    assert tells_nothing_new(_event(provider, kind), _attempt(status))


@pytest.mark.parametrize(
    ("provider", "kind", "status"),
    [
        ("stripe", "payment_intent.succeeded", A.AUTHORIZED),
        ("stripe", "payment_intent.succeeded", A.VOIDED),
        ("stripe", "payment_intent.succeeded", A.UNKNOWN),
        ("stripe", "payment_intent.canceled", A.CAPTURED),
        ("stripe", "charge.refunded", A.CAPTURED),
        ("stripe", "charge.dispute.created", A.CAPTURED),
        ("paystack", "refund.processed", A.CAPTURED),
        ("paystack", "charge.success", A.EXPIRED),
        ("unheard_of", "charge.success", A.CAPTURED),
    ],
)
def test_what_could_mean_more_is_looked_up(provider: str, kind: str, status: AttemptStatus) -> None:
    assert not tells_nothing_new(_event(provider, kind), _attempt(status))


@pytest.mark.parametrize(
    ("provider", "kind"),
    [("stripe", "charge.refunded"), ("stripe", "refund.created"), ("paystack", "refund.processed")],
)
def test_a_refund_is_no_news_when_all_is_given_back(provider: str, kind: str) -> None:
    for refunded in (0, 499, 500):
        attempt = _attempt(A.CAPTURED, captured_minor=500, refunded_minor=refunded)
        assert tells_nothing_new(_event(provider, kind), attempt) is (refunded == 500)
        assert not tells_nothing_new(_event(provider, kind, "pi_2"), attempt)
        assert not tells_nothing_new(_event(provider, "refund.failed"), attempt)


def test_another_payment_under_our_reference_is_news() -> None:
    assert not tells_nothing_new(_event("stripe", "payment_intent.succeeded", "pi_2"), _attempt(A.CAPTURED))
    assert not tells_nothing_new(_event("stripe", "payment_intent.succeeded", None), _attempt(A.CAPTURED, None))


P = PayoutStatus
NO_NEWS_OF_A_PAYOUT = {
    (P.SUCCEEDED, "transfer.success"),
    (P.FAILED, "transfer.failed"),
    (P.RETURNED, "transfer.success"),
    (P.RETURNED, "transfer.reversed"),
}


@pytest.mark.parametrize("status", P)
def test_what_is_known_of_a_payout(status: PayoutStatus) -> None:
    for kind in ("transfer.success", "transfer.failed", "transfer.reversed", "transfer.new", "charge.success"):
        payout = Payout.model_construct(reference="pyo-1", status=status, provider_id="TRF_1")
        known = (status, kind) in NO_NEWS_OF_A_PAYOUT
        assert tells_nothing_new_of(_event("paystack", kind, "TRF_1"), payout) is known, kind
        assert not tells_nothing_new_of(_event("paystack", kind, "TRF_2"), payout), "another transfer"
        assert not tells_nothing_new_of(_event("stripe", kind, "TRF_1"), payout)
