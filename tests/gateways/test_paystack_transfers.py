"""What Paystack's answers about transfers mean, and what it is asked. Every request is checked against its document."""

from datetime import UTC, datetime

import httpx
import pytest

from activities.gateways.paystack_transfers import PaystackTransfers
from activities.gateways.protocols import (
    INSUFFICIENT_BALANCE,
    BeneficiaryKind,
    PayoutFact,
    RailNotSent,
    RailRejected,
    RailUnknown,
)
from activities.gateways.registry import RailAccount, build_payout_rail
from tests.gateways.provider import ScriptedProvider
from tests.gateways.samples import REFERENCE, beneficiary, envelope, payout_order, paystack_error, transfer

NOT_FOUND = {"status": False, "message": "Transfer not found"}
SHORT = paystack_error("Your balance is not enough to fulfil this request")
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def recipient(number: str = "0123456789", bank: str = "058") -> dict[str, object]:
    return {"recipient_code": "RCP_1", "details": {"account_number": number, "bank_code": bank}}


async def test_a_transfer_is_ordered_from_the_balance(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider
) -> None:
    paystack_api.will_say(envelope(transfer("pending", recipient=56824902, fee_charged=None)))
    answer = await transfers.start_transfer(payout_order(reason="Profit, first quarter"))
    assert (answer.fact, answer.provider_id, answer.reference) == (PayoutFact.PENDING, "TRF_1", REFERENCE)
    assert (answer.amount_minor, answer.currency, answer.recipient) == (500_000, "NGN", None)
    [asked] = paystack_api.asked
    assert (asked.method, asked.path) == ("POST", "/transfer")
    assert asked.headers["authorization"] == "Bearer sk_test_1"
    assert asked.json == {
        "source": "balance", "amount": 500_000, "currency": "NGN", "recipient": "RCP_1", "reference": REFERENCE,
        "reason": "Profit, first quarter",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"amount_minor": 9_999}, "amount_below_minimum"),
        ({"amount_minor": 0}, "amount_below_minimum"),
        ({"currency": "USD"}, "currency_unsupported"),
        ({"reference": "too-short"}, "reference_invalid"),
        ({"reference": "UPPER-CASE-IS-NOT-TAKEN"}, "reference_invalid"),
        ({"reference": "a" * 51}, "reference_invalid"),
        ({"reference": "sixteen-letters-and.a-point"}, "reference_invalid"),
    ],
)
async def test_what_paystack_would_refuse_is_not_sent(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider, changes, code: str
) -> None:
    with pytest.raises(RailRejected) as refused:
        await transfers.start_transfer(payout_order(**changes))
    assert refused.value.code == code
    assert paystack_api.asked == []


@pytest.mark.parametrize("reference", ["a" * 16, "a" * 50, "with-dash_and_line-0"])
async def test_references_of_the_rails_alphabet_are_sent(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider, reference: str
) -> None:
    paystack_api.will_say(envelope(transfer(reference=reference)))
    assert (await transfers.start_transfer(payout_order(reference=reference))).reference == reference


@pytest.mark.parametrize(
    ("status", "fact", "code"),
    [
        ("pending", PayoutFact.PENDING, None),
        ("processing", PayoutFact.PENDING, None),
        ("otp", PayoutFact.NEEDS_APPROVAL, "otp"),
        ("received", PayoutFact.NEEDS_APPROVAL, "received"),
        ("success", PayoutFact.SUCCEEDED, None),
        ("failed", PayoutFact.FAILED, "bank_not_available"),
        ("abandoned", PayoutFact.FAILED, "abandoned"),
        ("blocked", PayoutFact.FAILED, "blocked"),
        ("rejected", PayoutFact.FAILED, "rejected"),
        ("reversed", PayoutFact.RETURNED, "bank_not_available"),
    ],
)
async def test_status_means(transfers: PaystackTransfers, paystack_api: ScriptedProvider, status, fact, code) -> None:
    paystack_api.will_say(envelope(transfer(status, gateway_response="Bank not available")))
    answer = await transfers.look_up_transfer(reference=REFERENCE)
    assert (answer.fact, answer.code) == (fact, code)
    assert (answer.amount_minor, answer.fee_minor, answer.recipient) == (500_000, 2_500, "RCP_1")
    assert answer.created_at == datetime(2024, 2, 1, 8, 32, 21, tzinfo=UTC)
    assert paystack_api.asked[0].path == f"/transfer/verify/{REFERENCE}"


@pytest.mark.parametrize("status", ["paid", "", None, 7])
async def test_a_status_nobody_documented_decides_nothing(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider, status
) -> None:
    paystack_api.will_say(envelope(transfer(status=status)))
    with pytest.raises(RailUnknown, match="unreadable_answer"):
        await transfers.start_transfer(payout_order())


async def test_a_look_up_by_the_transfers_own_code(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider
) -> None:
    paystack_api.will_say(envelope(transfer("success")))
    assert (await transfers.look_up_transfer(provider_id="TRF_1")).fact is PayoutFact.SUCCEEDED
    assert paystack_api.asked[0].path == "/transfer/TRF_1"
    with pytest.raises(ValueError, match="reference or the transfer's code"):
        await transfers.look_up_transfer()


async def test_absent_is_no_answer_about_what_paystack_named_itself(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider
) -> None:
    paystack_api.will_say(NOT_FOUND, 404).will_say(NOT_FOUND, 404).will_say(NOT_FOUND, 404)
    assert (await transfers.look_up_transfer(reference=REFERENCE)).fact is PayoutFact.ABSENT
    for known in ({"provider_id": "TRF_1"}, {"provider_id": "TRF_1", "reference": REFERENCE}):
        with pytest.raises(RailUnknown, match="known_but_absent"):
            await transfers.look_up_transfer(**known)


@pytest.mark.parametrize("body", [{"detail": "Not Found"}, paystack_error("The requested endpoint does not exist")])
async def test_only_paystack_itself_can_say_absent(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider, body
) -> None:
    paystack_api.will_say(body, 404)
    with pytest.raises(RailNotSent):
        await transfers.look_up_transfer(reference=REFERENCE)


async def test_an_answer_about_another_transfer_is_not_believed(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider
) -> None:
    paystack_api.will_say(envelope(transfer("success", reference="somebody-else-0000")))
    with pytest.raises(RailUnknown, match="unreadable_answer"):
        await transfers.start_transfer(payout_order())


DUPLICATES = [
    paystack_error("Duplicate Transfer Reference"),
    paystack_error("Please provide a unique reference. Reference already exists on a transfer"),
    paystack_error("In other words", code="duplicate_reference"),
]


@pytest.mark.parametrize("duplicate", DUPLICATES)
async def test_a_repeated_start_finds_the_first(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider, duplicate
) -> None:
    paystack_api.will_say(duplicate, 400).will_say(envelope(transfer("success")))
    assert (await transfers.start_transfer(payout_order())).fact is PayoutFact.SUCCEEDED


@pytest.mark.parametrize("duplicate", DUPLICATES)
async def test_a_duplicate_that_cannot_be_found_stays_unknown(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider, duplicate
) -> None:
    paystack_api.will_say(duplicate, 400).will_say(NOT_FOUND, 404)
    with pytest.raises(RailUnknown, match="duplicate_but_absent"):
        await transfers.start_transfer(payout_order())


async def test_a_refusal_is_final_only_if_nothing_was_sent_before(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider
) -> None:
    paystack_api.will_say(SHORT, 400).will_say(NOT_FOUND, 404)
    with pytest.raises(RailRejected) as refused:
        await transfers.start_transfer(payout_order())
    assert refused.value.code == INSUFFICIENT_BALANCE
    paystack_api.will_say(SHORT, 400).will_say(envelope(transfer("pending")))
    assert (await transfers.start_transfer(payout_order())).fact is PayoutFact.PENDING
    paystack_api.will_say(SHORT, 400).will_say(b"", 500)
    with pytest.raises(RailUnknown, match=INSUFFICIENT_BALANCE):
        await transfers.start_transfer(payout_order())


async def test_a_wrong_key_is_refused_without_a_second_question(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider
) -> None:
    paystack_api.will_say(paystack_error("Invalid key"), 401)
    with pytest.raises(RailRejected, match="unauthorized"):
        await transfers.start_transfer(payout_order())


async def test_the_banks_name_of_an_account(transfers: PaystackTransfers, paystack_api: ScriptedProvider) -> None:
    asked = {"bank_code": "058", "account_number": "0123456789", "currency": "NGN"}
    paystack_api.will_say(envelope({"account_number": "0123456789", "account_name": "ADA OKAFOR", "bank_id": 9}))
    assert await transfers.resolve_account(**asked) == "ADA OKAFOR"
    assert paystack_api.asked[0].params == {"account_number": "0123456789", "bank_code": "058"}
    paystack_api.will_say(paystack_error("Could not resolve account name. Check parameters or try again."), 422)
    with pytest.raises(RailRejected, match="account_not_found"):
        await transfers.resolve_account(**asked)
    paystack_api.will_say(paystack_error("Unknown bank code: 058"), 400)
    with pytest.raises(RailRejected, match="bank_unknown"):
        await transfers.resolve_account(**asked)
    paystack_api.will_say(envelope({"account_number": "9999999999", "account_name": "EVE", "bank_id": 9}))
    with pytest.raises(RailNotSent, match="unreadable_answer"):
        await transfers.resolve_account(**asked)
    paystack_api.will_say(paystack_error("Test mode daily limit of 3 live bank resolves exceeded"), 400)
    with pytest.raises(RailNotSent):
        await transfers.resolve_account(**asked)
    with pytest.raises(RailRejected, match="resolution_unsupported"):
        await transfers.resolve_account(**(asked | {"currency": "ZAR"}))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "nuban"),
        ({"currency": "GHS"}, "ghipss"),
        ({"currency": "ZAR"}, "basa"),
        ({"currency": "GHS", "kind": BeneficiaryKind.MOBILE_MONEY}, "mobile_money"),
        ({"currency": "KES", "kind": BeneficiaryKind.MOBILE_MONEY}, "mobile_money"),
    ],
)
async def test_a_recipient_is_of_its_currencys_type(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider, changes, kind: str
) -> None:
    paystack_api.will_say(envelope(recipient()), 201)
    assert await transfers.create_recipient(beneficiary(**changes)) == "RCP_1"
    [asked] = paystack_api.asked
    assert asked.json == {
        "type": kind, "name": "Ada Okafor", "account_number": "0123456789", "bank_code": "058",
        "currency": changes.get("currency", "NGN"),
    }  # fmt: skip


@pytest.mark.parametrize("changes", [{"currency": "KES"}, {"currency": "USD"}, {"kind": BeneficiaryKind.MOBILE_MONEY}])
async def test_a_destination_paystack_does_not_know_is_not_asked_for(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider, changes
) -> None:
    with pytest.raises(RailRejected, match="destination_unsupported"):
        await transfers.create_recipient(beneficiary(**changes))
    assert paystack_api.asked == []


@pytest.mark.parametrize("answer", [recipient(number="9999999999"), recipient(bank="044"), {"recipient_code": "RCP_1"}])
async def test_a_recipient_for_another_account_is_not_believed(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider, answer
) -> None:
    paystack_api.will_say(envelope(answer), 201)
    with pytest.raises(RailUnknown, match="unreadable_answer"):
        await transfers.create_recipient(beneficiary())


async def test_a_telephone_number_may_be_rewritten(
    transfers: PaystackTransfers, paystack_api: ScriptedProvider
) -> None:
    paystack_api.will_say(envelope(recipient(number="254700000000")), 201)
    mobile = beneficiary(currency="KES", kind=BeneficiaryKind.MOBILE_MONEY, account_number="0700000000")
    assert await transfers.create_recipient(mobile) == "RCP_1"


async def test_lists_hold_strangers_and_pages(transfers: PaystackTransfers, paystack_api: ScriptedProvider) -> None:
    stranger = transfer("reversed", transfer_code="TRF_2", reference="Made-In-The-Dashboard")
    paystack_api.will_say(envelope([transfer("success"), stranger], meta={"pageCount": 2}))
    page = await transfers.list_transfers(since=SINCE, cursor=None)
    assert [(p.reference, p.fact) for p in page.payouts] == [
        (REFERENCE, PayoutFact.SUCCEEDED), ("Made-In-The-Dashboard", PayoutFact.RETURNED)
    ]  # fmt: skip
    assert page.next_cursor == "2"
    assert paystack_api.asked[0].params["from"] == "2026-01-01T00:00:00.000Z"
    paystack_api.will_say(envelope([], meta={"pageCount": 2}))
    assert (await transfers.list_transfers(since=SINCE, cursor="2")).next_cursor is None
    assert paystack_api.asked[1].params["page"] == "2"


async def test_the_balance_of_a_currency(transfers: PaystackTransfers, paystack_api: ScriptedProvider) -> None:
    held = [{"currency": "NGN", "balance": 1_700_000}, {"currency": "GHS", "balance": 5}]
    for currency, amount in (("NGN", 1_700_000), ("GHS", 5), ("ZAR", 0)):
        paystack_api.will_say(envelope(held))
        assert await transfers.balance(currency) == amount
    paystack_api.will_say(envelope([{"currency": "NGN", "balance": 1.5}]))
    with pytest.raises(RailNotSent, match="unreadable_answer"):
        await transfers.balance("NGN")


def test_a_beneficiary_prints_without_personal_data() -> None:
    printed = f"{beneficiary()!r} {beneficiary()}"
    assert "Ada" not in printed and "0123456789" not in printed and "058" in printed


async def test_only_some_rails_pay_out() -> None:
    async with httpx.AsyncClient() as client:
        account = {"provider": "paystack", "secret_key": "sk_test_1"}
        assert build_payout_rail(RailAccount.model_validate(account), client).name == "paystack"
        with pytest.raises(ValueError, match="no payout rail named 'stripe'"):
            build_payout_rail(RailAccount.model_validate(account | {"provider": "stripe"}), client)
