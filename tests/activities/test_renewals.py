"""A renewal whose answers are lost on the way: whatever the provider did is found, and at the end nothing is held twice."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from activities.effects import Effect, Effects
from activities.gateways.protocols import PaymentOrder, RailAnswer, RailNotSent, RailUnknown
from contracts.base import Scope
from contracts.ids import attempt_key
from domain.payment import PaymentStatus, PaymentStep
from infra.database import Database
from models.settlement import plan_settlement
from tests.fixtures.books import wrong_in_books
from tests.fixtures.pledges import NOW
from tests.fixtures.settling import Settling

P, S = PaymentStatus, PaymentStep


class WorkerDied(BaseException):
    """As a kill: nothing that comes after it is done."""


@pytest.fixture
async def lapsing(database: Database, scope: Scope, owner_url: str) -> AsyncIterator[Settling]:
    """One pledge held by a card that wants renewal. At the end the auditor finds nothing wrong with its books."""
    made = await Settling.make(database, scope, owner_url, ("stripe",), outcome="renew")
    payment = made.pledges[0].payment_id
    made.sql("update payments set instrument = 'pm_1', authorized_until = %s where id = %s", NOW, payment)
    made.settlement = "set_renewals"
    async with database.transaction(scope) as tx:
        await plan_settlement(
            tx, scope, settlement_id=made.settlement, campaign_id=made.campaign.id, outcome="renew", round_no=2,
            margin=timedelta(0), as_of=NOW,
        )  # fmt: skip
    yield made
    assert await wrong_in_books(owner_url, scope) == []


def fails(each: Settling, error: BaseException) -> None:
    """The next authorizations end so, after the provider has heard of them."""

    def do() -> None:
        raise error

    each.cards.meanwhile = do


async def canceled(each: Settling) -> None:
    """The investor takes the pledge back: its own process releases what is held."""
    payment = each.pledges[0].payment_id
    each.sql("update payments set cancel_reason = 'canceled_by_investor' where id = %s", payment)
    progress = await each.steps()[0].void(each.scope, payment, NOW)
    assert progress.status is P.CANCELED


def attempts(each: Settling) -> list[tuple[Any, ...]]:
    """(status, held) of each attempt, oldest first."""
    statement = "select status, held from payment_attempts where payment_id = %s order by ordinal"
    return each.sql(statement, each.pledges[0].payment_id)


@pytest.mark.parametrize("error", [RailUnknown("timeout"), WorkerDied()], ids=["unanswered", "worker died"])
@pytest.mark.parametrize("by", ["its line", "its own process"])
async def test_a_renewal_nobody_answered_is_found_after_a_cancel(
    lapsing: Settling, error: BaseException, by: str
) -> None:
    payments, _, renewals = lapsing.steps()
    payment = lapsing.pledges[0].payment_id
    fails(lapsing, error)
    if isinstance(error, WorkerDied):
        with pytest.raises(WorkerDied):
            await renewals.renew(lapsing.scope, payment, NOW, notices="set_1")
    else:
        assert (await renewals.renew(lapsing.scope, payment, NOW, notices="set_1")).step is S.WAIT
    await canceled(lapsing)

    lapsing.cards.meanwhile = None
    if by == "its line":
        progress = await renewals.renew(lapsing.scope, payment, NOW, notices="set_1")
        assert progress.step is S.DONE
    else:
        progress = await payments.check(lapsing.scope, payment, NOW)
        assert progress.step is S.VOID
    assert attempts(lapsing) == [("voided", False), ("authorized", False)], "the provider holds it: it is no secret"
    progress = await payments.void(lapsing.scope, payment, NOW)
    assert (progress.status, progress.step) == (P.CANCELED, S.DONE)
    assert (await renewals.renew(lapsing.scope, payment, NOW, notices="set_1")).step is S.DONE
    assert attempts(lapsing) == [("voided", False), ("voided", False)]
    assert lapsing.sql("select kind, status from cases") == [("late_success", "resolved")]


@pytest.mark.parametrize("by", ["its line", "its own process"])
async def test_a_renewal_that_was_never_sent_is_not_sent_after_a_cancel(lapsing: Settling, by: str) -> None:
    payments, _, renewals = lapsing.steps()
    payment = lapsing.pledges[0].payment_id
    fails(lapsing, RailNotSent("rate_limited"))
    with pytest.raises(RailNotSent):
        await renewals.renew(lapsing.scope, payment, NOW, notices="set_1")
    await canceled(lapsing)
    calls = [*lapsing.cards.calls]
    if by == "its line":
        assert (await renewals.renew(lapsing.scope, payment, NOW, notices="set_1")).step is S.DONE
    else:
        assert (await payments.check(lapsing.scope, payment, NOW)).step is S.DONE
    assert lapsing.cards.calls == calls
    assert attempts(lapsing) == [("voided", False), ("not_sent", False)]


async def test_a_renewal_that_an_earlier_release_began_is_gone_on_with(lapsing: Settling) -> None:
    """That one wrote the whole order down as what was asked for."""
    payment, asked = lapsing.pledges[0].payment_id, list[PaymentOrder]()
    start = lapsing.cards.start

    async def listen(order: PaymentOrder) -> RailAnswer:
        asked.append(order)
        return await start(order)

    lapsing.cards.start = listen  # type: ignore[method-assign]
    fails(lapsing, RailUnknown("timeout"))
    _, _, renewals = lapsing.steps()
    await renewals.renew(lapsing.scope, payment, NOW, notices="set_1")
    key = attempt_key(asked[0].reference, "start")
    then = Effect(lapsing.scope, key, "stripe", "renew", request=asked[0], answer=RailAnswer)
    lapsing.sql("delete from effects where key = %s", key)
    async with lapsing.db.transaction(lapsing.scope) as tx:
        await Effects(lapsing.db).claim(tx, then)

    lapsing.cards.meanwhile = None
    assert (await renewals.renew(lapsing.scope, payment, NOW, notices="set_1")).step is S.DONE
    assert attempts(lapsing) == [("voided", False), ("authorized", True)]


async def test_the_line_waits_until_the_old_authorization_is_released(lapsing: Settling) -> None:
    """Its release was not answered: the payer's card may be held twice until it is."""
    first = lapsing.provider_id(0)
    lapsing.cards.planned["void", first] = RailUnknown("timeout")
    progress = await lapsing.run()
    assert (progress.open, lapsing.line(0)[0]) == (1, "unknown")
    assert attempts(lapsing) == [("unknown", True), ("authorized", True)]
    progress = await lapsing.run(as_of=NOW + timedelta(hours=1))
    assert (progress.open, progress.done) == (0, 1)
    assert attempts(lapsing) == [("voided", False), ("authorized", True)]
    assert lapsing.sql("select status, next_action_at from payments") == [("requires_capture", None)]
