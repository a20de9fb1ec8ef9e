"""Lines settled by the chunk end as lines settled one by one, and what is not plain goes the longer way."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from activities.gateways.protocols import (
    PaymentFact,
    RailAnswer,
    RailNotSent,
    RailRejected,
    RailUnknown,
    RefundAnswer,
    RefundFact,
)
from activities.settlements import is_covered
from contracts.base import Scope
from domain.payment import REFUND_PENDING_CHECKS
from infra.database import Database
from models.case import get_case, open_case, open_cases
from models.case_closing import concern_of, resolve_by_hand, resolve_retried
from models.refund_reconciliation import wrong_credits
from models.settlement import get_settlement, requeue_failed
from tests.fixtures.pledges import NGN, NOW
from tests.fixtures.postgres import role_url
from tests.fixtures.settling import Settling

MIXED = ("wallet", "stripe", "wallet", "stripe", "stripe")
MOVE = "select ledger_post_one(%s, 'correction', 'single'::ledger_phase, %s::uuid, now(), null, %s, %s, %s)"
"""Key, hash, the account that is debited, the one that is credited, minor units."""
Made = tuple[Database, Scope, str]


@pytest.fixture
def made(database: Database, scope: Scope, owner_url: str) -> Made:
    return database, scope, owner_url


async def settling(made: Made, sources: Sequence[str], outcome: str, *, captured: bool = False) -> Settling:
    return await Settling.make(*made, sources, outcome=outcome, captured=captured)


@pytest.mark.parametrize("wallet_chosen", [False, True])
@pytest.mark.parametrize(("outcome", "captured"), [("capture", False), ("release", False), ("release", True)])
async def test_a_chunk_ends_as_its_lines_one_by_one(
    made: Made, outcome: str, captured: bool, wallet_chosen: bool
) -> None:
    """Rows, stories, messages, effects, ledger and counters, word for word."""
    found: list[dict[str, list[Any]]] = []
    for alone in (True, False):
        each = await settling(made, MIXED, outcome, captured=captured)
        if wallet_chosen:
            each.sql("update investments set refund_to = 'wallet' where id = any(%s)", [p.id for p in each.pledges[:2]])
        if alone:
            each.one_by_one()
        progress = await each.run()
        assert (progress.open, progress.done, progress.failed) == (0, len(MIXED), 0)
        found.append(each.facts())
    for name in found[0]:
        assert found[1][name] == found[0][name], name
        assert found[0][name] or name == "refunds" or not captured, name


async def test_money_that_came_back_by_choice_is_in_the_wallet(made: Made) -> None:
    each = await settling(made, ("stripe", "stripe"), "release", captured=True)
    each.sql("update investments set refund_to = 'wallet' where id = %s", each.pledges[0].id)
    await each.run()
    assert [each.pledge(0), each.pledge(1)] == ["credited_to_wallet", "refunded"]
    assert each.cards.calls == [("refund", each.provider_id(1))]


@pytest.mark.parametrize("outcome", ["capture", "release"])
async def test_an_answer_that_is_lost_is_looked_up(made: Made, outcome: str) -> None:
    """The call is not made again; the line waits, and its neighbours do not."""
    operation = "capture" if outcome == "capture" else "void"
    each = await settling(made, ("stripe", "stripe"), outcome)
    lost = each.provider_id(0)
    each.cards.planned[operation, lost] = RailUnknown("timeout")
    progress = await each.run()
    assert (progress.open, progress.done) == (1, 1)
    assert each.line(0)[0] == "unknown" and each.pledge(0) == "held"
    each.cards.truth[lost] = RailAnswer(fact=PaymentFact.VOIDED, provider_id=lost)  # that is what had become of it
    progress = await each.run(as_of=NOW + timedelta(days=1))
    assert (progress.open, progress.done) == (0, 2)
    assert each.pledge(0) == "canceled" and each.cards.calls.count((operation, lost)) == 1


async def test_a_refusal_fails_its_line_alone(made: Made) -> None:
    each = await settling(made, ("stripe", "wallet", "stripe"), "capture")
    each.cards.planned["capture", each.provider_id(0)] = RailRejected("card_declined")
    progress = await each.run()
    assert (progress.open, progress.done, progress.failed) == (0, 2, 1)
    assert [each.pledge(n) for n in range(3)] == ["failed", "captured", "captured"]
    assert each.cards.calls.count(("capture", each.provider_id(0))) == 1, "the record of it is the answer"


_ATTEMPTS_CASE = (
    "select c.id from cases c join payment_attempts a on a.reference = c.subject_id where a.payment_id = %s"
)


async def close(each: Settling, case_id: str, resolution: str = "Paid in cash.") -> None:
    async with each.db.transaction(each.scope) as tx:
        case = await get_case(tx, case_id)
        assert case is not None
        await resolve_by_hand(tx, each.scope, case, await concern_of(tx, case), resolution, NOW)


async def retry(each: Settling) -> list[str]:
    """The payments whose lines were put back."""
    async with each.db.transaction(each.scope) as tx:
        retried = await requeue_failed(tx, each.settlement)
        await resolve_retried(tx, retried, NOW)
    return retried


async def refused(made: Made, pledges: int = 2) -> Settling:
    """A settlement whose captures were all refused."""
    each = await settling(made, ("stripe",) * pledges, "capture")
    for number in range(pledges):
        each.cards.planned["capture", each.provider_id(number)] = RailRejected("card_declined")
    await each.run()
    assert each.blocked() == "failed_lines"
    return each


async def test_a_retry_leaves_out_what_was_dealt_with_by_another_way(made: Made) -> None:
    """Somebody has paid it: put back, its money would go out twice."""
    each = await refused(made)
    by_hand, other = (str(each.sql(_ATTEMPTS_CASE, pledge.payment_id)[0][0]) for pledge in each.pledges)
    await close(each, by_hand, "retried")  # whatever the words are
    assert await retry(each) == [each.pledges[1].payment_id]
    assert [each.line(n)[0] for n in range(2)] == ["failed", "queued"]
    told = "select status, resolution from cases where id = %s"
    assert [each.sql(told, id)[0] for id in (by_hand, other)] == [("resolved", "retried")] * 2


async def test_a_refused_refund_is_not_asked_for_anew_by_itself(made: Made) -> None:
    """The pass died between the refusal and the line's end. The next one ends the line: only an operator puts it back."""
    each = await settling(made, ("stripe",), "release", captured=True)
    each.cards.planned["refund", each.provider_id(0)] = RailRejected("charge_disputed")
    _, refunds, _ = each.steps()
    payment = each.pledges[0].payment_id
    first = await refunds.request_for_pledge(each.scope, payment, NOW)
    assert (await refunds.advance(each.scope, first, NOW)).status == "failed"
    async with each.db.transaction(each.scope) as tx:
        [case] = await open_cases(tx, 10)
        assert (await concern_of(tx, case)).worked_on, (
            "not to be closed by hand: the line may yet succeed, for all anybody knows"
        )
    await each.run()
    assert each.line(0) == ("failed", "refund_failed")
    async with each.db.transaction(each.scope) as tx:
        assert not (await concern_of(tx, case)).worked_on
    assert each.sql("select id from refunds") == [(first,)]
    assert await retry(each) == [payment]
    await each.run()
    assert (each.line(0)[0], each.pledge(0)) == ("done", "refunded")
    assert each.sql("select count(*) from refunds where blocked_reason is not null") == [(0,)]


async def test_a_refund_that_the_provider_does_not_decide_says_so(made: Made) -> None:
    each = await settling(made, ("stripe",), "release", captured=True)
    waits = RefundAnswer(fact=RefundFact.PENDING, provider_id="re-1", code="needs-attention")
    each.cards.refunds[each.provider_id(0)] = waits
    await each.run()
    why = "select status, blocked_reason, error_code from refunds"
    assert each.sql(why) == [("pending", "refund_pending", "needs-attention")]
    each.cards.refunds[each.provider_id(0)] = waits.model_copy(update={"code": None})
    for day in range(1, REFUND_PENDING_CHECKS):
        await each.run(as_of=NOW + timedelta(days=day))
    assert each.sql(why) == [("pending", None, None)], "it is on its way"
    await each.run(as_of=NOW + timedelta(days=50))
    assert each.sql(why) == [("pending", "refund_pending", None)], "for too long"
    each.cards.refunds[each.provider_id(0)] = waits.model_copy(update={"fact": RefundFact.SUCCEEDED, "code": None})
    await each.run(as_of=NOW + timedelta(days=51))
    assert each.sql(why) == [("succeeded", None, None)] and each.pledge(0) == "refunded"


async def test_a_renewal_of_a_pledge_that_was_canceled_meanwhile_is_released(made: Made) -> None:
    each = await settling(made, ("stripe",), "renew")
    payment = each.pledges[0].payment_id
    each.sql("update payments set instrument = 'pm_1', authorized_until = %s where id = %s", NOW, payment)
    each.cards.meanwhile = lambda: each.sql("update payments set status = 'canceled' where id = %s", payment)
    _, _, renewals = each.steps()
    await renewals.renew(each.scope, payment, NOW, notices="set_1")
    [(_, reference)] = [call for call in each.cards.calls if call[0] == "start"]
    assert each.sql("select status, held from payment_attempts where reference = %s", reference) == [
        ("authorized", False)
    ]
    assert each.sql("select kind, subject_id from cases") == [("late_success", reference)]
    started = "select count(*) from outbox where workflow_type = 'PaymentWorkflow' and order_key like %s"
    assert each.sql(started, f"%{payment}") == [(1,)], "its process voids the authorization"


async def test_a_settlement_is_blocked_by_what_is_still_to_be_dealt_with(made: Made) -> None:
    each = await refused(made)
    first, second = (str(each.sql(_ATTEMPTS_CASE, pledge.payment_id)[0][0]) for pledge in each.pledges)
    await close(each, first)
    assert each.blocked() == "failed_lines", "the other line"
    await retry(each)
    await each.run()
    assert each.blocked() == "failed_lines", "it was refused again"
    await close(each, second)
    assert each.blocked() is None
    await each.run()
    assert each.blocked() is None, "a later count of the lines knows what was dealt with"


async def test_a_case_of_an_earlier_attempt_is_not_about_the_line(made: Made) -> None:
    """Closing it must not take the line for settled: nobody would send its money."""
    each = await refused(made, 1)
    each.sql(
        """insert into payment_attempts
           select (jsonb_populate_record(a, '{"reference": "ch-earlier", "ordinal": 0, "provider_id": null}')).*
             from payment_attempts a where payment_id = %s""",
        each.pledges[0].payment_id,
    )
    async with each.db.transaction(each.scope) as tx:
        await open_case(tx, each.scope, kind="failed_line", subject_id="ch-earlier", detail={}, as_of=NOW)
    await close(each, str(each.sql("select id from cases where subject_id = 'ch-earlier'")[0][0]))
    assert each.blocked() == "failed_lines"
    assert await retry(each) == [each.pledges[0].payment_id]


async def test_a_refused_refund_of_late_money_takes_its_other_case_along(made: Made) -> None:
    """The money came too late, and cannot go back the way it came: paid by another way, both cases are settled."""
    each = await refused(made, 1)
    each.sql(
        """insert into refunds (tenant_id, mode, id, payment_id, attempt_reference, provider, amount_minor, currency, reason,
                                source_account, status, blocked_reason, created_at)
           select tenant_id, mode, 'rfd_late', payment_id, reference, provider, 100, 'NGN', 'late_success', 'unmatched',
                  'failed', 'refund_failed', now() from payment_attempts where payment_id = %s""",
        each.pledges[0].payment_id,
    )
    reference = str(each.sql("select reference from payment_attempts")[0][0])
    async with each.db.transaction(each.scope) as tx:
        for kind, subject in (("failed_refund", "rfd_late"), ("late_success", reference)):
            await open_case(tx, each.scope, kind=kind, subject_id=subject, detail={}, as_of=NOW)
    await close(each, str(each.sql("select id from cases where kind = 'failed_refund'")[0][0]))
    assert each.sql("select blocked_reason from refunds") == [(None,)]
    assert {kind for (kind,) in each.sql("select kind from cases where status = 'open'")} == {"failed_line"}
    assert each.blocked() == "failed_lines", "that refund is no line's"


async def test_what_was_not_sent_waits(made: Made) -> None:
    each = await settling(made, ("stripe", "stripe"), "capture")
    each.cards.planned["capture", each.provider_id(1)] = RailNotSent("rate_limited")
    progress = await each.run()
    assert (progress.open, progress.done) == (1, 1) and each.line(1) == ("queued", "rate_limited")
    progress = await each.run(as_of=NOW + timedelta(days=1))
    assert (progress.open, progress.done) == (0, 2) and each.pledge(1) == "captured"


async def test_another_amount_is_not_booked_as_the_pledge(made: Made) -> None:
    each = await settling(made, ("stripe", "stripe"), "capture")
    wrong = RailAnswer(
        fact=PaymentFact.CAPTURED, provider_id=each.provider_id(0), amount_minor=9_999, captured_minor=9_999, currency=NGN
    )  # fmt: skip
    each.cards.planned["capture", each.provider_id(0)] = wrong
    await each.run()
    assert [each.pledge(0), each.pledge(1)] == ["failed", "captured"]
    assert each.sql("select kind from cases order by kind") == [("amount_mismatch",), ("failed_line",)]


async def test_a_chunk_whose_escrow_is_short_refuses_lines_alone(made: Made) -> None:
    """The ledger refuses the chunk: line by line, what is there is given back, and the rest waits for a person."""
    each = await settling(made, ("wallet", "wallet"), "release", captured=True)
    each.sql(
        MOVE, "gone", "0" * 32, f"escrow:{each.campaign.id}:NGN", f"wallet:{each.pledges[0].investor_id}:NGN", 10_000
    )
    progress = await each.run()
    assert progress.done + progress.failed == 2 and progress.failed == 1
    assert sorted(each.line(n) for n in range(2)) == [("done", None), ("failed", "insufficient_funds")]


async def test_a_range_that_dies_in_the_middle_is_taken_up(made: Made) -> None:
    """Claimed and called, not recorded: the next pass resolves each call instead of making it again."""
    each = await settling(made, ("stripe",) * 4, "capture")
    each.cards.planned["capture", each.provider_id(2)] = RuntimeError("as a worker that is killed")
    with pytest.raises(RuntimeError, match="killed"):
        await each.run(at_once=1)
    sent = [call for call in each.cards.calls if call[0] == "capture"]
    assert 0 < len(sent) <= 4 and each.pledge(0) == "held", "nothing was recorded"
    progress = await each.run()
    assert (progress.open, progress.done) == (0, 4)
    assert [each.pledge(n) for n in range(4)] == ["captured"] * 4


async def test_a_pledge_taken_back_in_time_is_released_where_others_are_captured(made: Made) -> None:
    each = await settling(made, ("wallet", "stripe", "stripe"), "capture")
    canceled = [each.pledges[n].payment_id for n in (0, 1)]
    each.sql("update payments set cancel_reason = 'canceled_by_investor' where id = any(%s)", canceled)
    progress = await each.run()
    assert (progress.open, progress.failed) == (0, 0)
    assert [each.pledge(n) for n in range(3)] == ["canceled", "canceled", "captured"]


async def test_refunds_that_are_not_covered_wait_and_say_so(made: Made) -> None:
    """Nobody is paid from what others are owed; a pledge that is only held is released meanwhile."""
    each = await settling(made, ("wallet", "stripe"), "release", captured=True)
    escrow, payer = f"escrow:{each.campaign.id}:NGN", each.pledges[0].investor_id
    each.sql(MOVE, "gone", "0" * 32, escrow, f"wallet:{payer}:NGN", 5)
    each.sql("update settlements set blocked_reason = 'not_covered' where id = %s", each.settlement)
    progress = await each.run()
    assert (progress.open, progress.done, each.cards.calls) == (2, 0, [])
    assert progress.next_action_at == NOW + timedelta(hours=1) and each.line(0) == ("queued", "not_covered")
    assert each.sql("select blocked_reason from settlements where id = %s", each.settlement) == [("not_covered",)]
    each.sql(MOVE, "back", "1" * 32, f"wallet:{payer}:NGN", escrow, 5)
    progress = await each.run(as_of=NOW + timedelta(hours=1))
    assert (progress.open, progress.done) == (0, 2)
    assert each.sql("select blocked_reason from settlements where id = %s", each.settlement) == [(None,)]


async def test_the_planned_refunds_are_held_against_the_escrow(made: Made) -> None:
    each = await settling(made, ("wallet", "wallet"), "release", captured=True)
    async with each.db.transaction(each.scope) as tx:
        settlement = await get_settlement(tx, each.settlement)
        assert settlement is not None and await is_covered(tx, settlement)
    each.sql(MOVE, "gone", "0" * 32, f"escrow:{each.campaign.id}:NGN", f"wallet:{each.pledges[0].investor_id}:NGN", 1)
    async with each.db.transaction(each.scope) as tx:
        assert not await is_covered(tx, settlement)


async def test_the_auditor_knows_what_went_into_wallets(made: Made, owner_url: str) -> None:
    each = await settling(made, ("stripe", "wallet"), "release", captured=True)
    each.sql("update investments set refund_to = 'wallet' where id = %s", each.pledges[0].id)
    await each.run()
    auditor = Database(role_url(owner_url, "chama_audit"), name="test-audit", max_size=1)
    await auditor.open()
    try:

        async def findings() -> list[str]:
            async with auditor.transaction() as tx:
                return [text for text in await wrong_credits(tx) if str(each.scope.tenant_id) in text]

        assert await findings() == []
        each.sql(
            "update refunds set amount_minor = amount_minor - 1 where provider = 'wallet' and id = (select min(id) from refunds)"
        )
        assert any("into the wallet is succeeded" in text for text in await findings())
        each.sql("update investments set status = 'credited_to_wallet' where id = %s", each.pledges[1].id)
        each.sql("update refunds set status = 'failed' where payment_id = %s", each.pledges[1].payment_id)
        assert any("credited without its refund" in text for text in await findings())
    finally:
        await auditor.close()
