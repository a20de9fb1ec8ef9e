"""Chargebacks: the payer's bank has taken captured money back, from the provider and so from us. It is given back once: by no
refund and no return any more. What the campaign's escrow still holds of it leaves the escrow against the provider's account.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, LiteralString

from psycopg.errors import SerializationFailure

from domain.accounts import escrow
from domain.campaign import HAS_PLAN
from domain.chargeback import Part, pledge_charged_back
from domain.investment import Bucket
from domain.money import Money
from infra.database import Tx
from models import ledger
from models.campaign import get_campaign, shift
from models.investment import Investment

LEFT_ESCROW: Final[LiteralString] = """(i.charged_back_at is not null and exists (
       select from ledger_transfers t where (t.tenant_id, t.mode, t.key) = (i.tenant_id, i.mode, 'chargeback/' || i.id)))"""
"""Of investments `i`: that it was charged back before its campaign was funded, and all of it left the escrow then."""


async def charge_back(tx: Tx, investment: Investment, as_of: datetime) -> bool:
    """An investment whose row is locked counts for nothing from `as_of` on; False when it is not captured, or was charged back
    before. Raises as `leave_escrow`."""
    done = await tx.execute(
        """update investments set charged_back_at = %s, updated_at = now()
           where id = %s and status = 'captured' and charged_back_at is null""",
        (as_of, investment.id),
    )
    if done.rowcount == 0:
        return False
    investment.charged_back_at = as_of
    await leave_escrow(tx, investment, as_of)
    return True


async def leave_escrow(tx: Tx, investment: Investment, as_of: datetime) -> None:
    """A charged-back pledge, whose row is locked, is no part any more of what its campaign has raised; once.

    A funded campaign's money is planned to the last unit and stays as it is planned: what would go back to the pledge's holder
    leaves then (`domain.chargeback.divide`). Raises InsufficientFunds, and SerializationFailure when the campaign is funded this
    moment: done again, it is.
    """
    campaign = await get_campaign(tx, investment.campaign_id)
    assert campaign is not None
    if campaign.status in HAS_PLAN:
        return
    source = escrow(campaign.id, investment.currency)
    amount = Money(investment.amount_minor, investment.currency)
    key = f"chargeback/{investment.id}"
    booked = pledge_charged_back(key, source=source, provider=investment.provider, amount=amount, as_of=as_of)
    posted = await ledger.post(tx, booked)
    if posted.replayed:
        return
    await shift(tx, campaign.id, amount.amount_minor, Bucket.CAPTURED, None)
    campaign = await get_campaign(tx, campaign.id)
    assert campaign is not None
    if campaign.status in HAS_PLAN:
        raise SerializationFailure("the campaign was funded meanwhile")


async def parts_of(tx: Tx, campaign_id: str, holders: Sequence[str]) -> dict[str, list[Part]]:
    """The holders' pledges that a funded campaign's money came from, held as they are until the transaction ends."""
    rows = await (
        await tx.execute(
            f"""select id, investor_id, provider, amount_minor, charged_back_at is not null as charged_back from investments i
                 where campaign_id = %s and investor_id = any(%s) and status = 'captured' and not {LEFT_ESCROW}
                 order by id for share""",  # noqa: S608 - constant text
            (campaign_id, list(holders)),
        )
    ).fetchall()
    found: dict[str, list[Part]] = {each: [] for each in holders}
    for row in rows:
        found[row["investor_id"]].append(Part(row["id"], row["provider"], row["amount_minor"], row["charged_back"]))
    return found
