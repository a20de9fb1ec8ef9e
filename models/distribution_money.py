"""A run's postings: its money is held in the funder's wallet, becomes the holders', and is paid line by line.

Keys: `distribution/<run>/hold`, `/funds`, `/canceled`, `/recovered`, `/unclaimed/<occasion>`, and `distribution/<run>/<line>`
for each line that is paid. So nothing is booked twice, whoever repeats what.
"""

from collections.abc import Sequence
from datetime import datetime

from domain import distribution_postings as postings
from domain.accounts import InsufficientFunds, wallet
from domain.distribution import Line
from domain.money import Money
from infra.database import Tx, fetch_one
from models import ledger
from models.distribution import Distribution


def key(run: Distribution, part: object) -> str:
    """The ledger key of one part of a run."""
    return f"distribution/{run.id}/{part}"


async def hold(tx: Tx, run: Distribution, as_of: datetime) -> bool:
    """Reserve what the run needs in its funder's wallet; False, and nothing moved, when too little is available."""
    if run.to_fund_minor == 0:
        return True
    posting = postings.distribution_declared(
        key(run, "hold"),
        funding=wallet(run.funder_id, run.currency),
        campaign_id=run.campaign_id,
        amount=Money(run.to_fund_minor, run.currency),
        as_of=as_of,
    )
    try:
        async with tx.transaction():
            await ledger.post(tx, posting)
    except InsufficientFunds:
        return False
    return True


async def release(tx: Tx, run: Distribution, as_of: datetime) -> None:
    """The run is canceled: its money is where it was."""
    if run.hold_placed and run.to_fund_minor:
        await ledger.post(tx, postings.distribution_canceled(key(run, "canceled"), hold=key(run, "hold"), as_of=as_of))


async def fund(tx: Tx, run: Distribution, as_of: datetime) -> None:
    """What was held is the holders'; what adjustments took back is the funder's again."""
    if run.to_fund_minor:
        await ledger.post(tx, postings.distribution_funded(key(run, "funds"), hold=key(run, "hold"), as_of=as_of))
    if run.recovered_minor:
        recovered = postings.distribution_recovered(
            key(run, "recovered"),
            campaign_id=run.campaign_id,
            funding=wallet(run.funder_id, run.currency),
            amount=Money(run.recovered_minor, run.currency),
            as_of=as_of,
        )
        await ledger.post(tx, recovered)


async def credit(tx: Tx, run: Distribution, lines: Sequence[tuple[int, Line]], as_of: datetime) -> None:
    """Pay lines into wallets, all or none. Raises as `ledger.post_many`."""
    await ledger.post_many(
        tx,
        [
            postings.distribution_credited(
                key(run, number),
                campaign_id=run.campaign_id,
                user_id=line.holder_id,
                currency=run.currency,
                line=line,
                as_of=as_of,
            )
            for number, line in lines
        ],
    )


async def give_up(tx: Tx, run: Distribution, minor: int, as_of: datetime, *, occasion: str) -> None:
    """Nobody could be paid `minor`, and nobody will: it is unclaimed. One posting an `occasion` (the command's own id)."""
    if minor:
        amount = Money(minor, run.currency)
        posting = postings.distribution_unclaimed(
            key(run, f"unclaimed/{occasion}"), campaign_id=run.campaign_id, amount=amount, as_of=as_of
        )
        await ledger.post(tx, posting)


_CREDITED = """
select count(*) filter (where t.part = 1)::int as n, coalesce(sum(t.amount_minor), 0)::bigint as minor
  from ledger_transfers t
 where t.key >= %(low)s collate "C" and t.key < %(high)s collate "C" and t.event = 'distribution_credited'
"""


async def credited(tx: Tx, run: Distribution) -> tuple[int, int]:
    """What the ledger says of the run: how many lines it paid into wallets, and their gross in minor units."""
    row = await fetch_one(tx, _CREDITED, {"low": f"distribution/{run.id}/", "high": f"distribution/{run.id}0"})
    assert row is not None
    return row["n"], row["minor"]
