"""The payouts of a run's lines, set by set: made with their lines, sent, and told about by the provider.

A line and its newest payout name each other, and what moves the payout moves the line (a trigger of migration 0015). A line that
is paid out again has another payout; the earlier one is over.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

from contracts.base import Scope
from contracts.ids import derive_id
from domain.distribution import Line
from domain.distribution_postings import distribution_payable, distribution_sending
from domain.money import Money
from domain.payout import PAYOUT, PayoutStatus
from domain.payout_postings import payout_fee, payout_key, payout_sent
from infra.database import Tx, fetch_one
from models import ledger, timeline
from models.base import read_all
from models.distribution import Distribution
from models.distribution_lines import fail_line
from models.payout import Payout, close_cases

REASON: Final = "distribution"
"""In `payouts.reason`; `subject_id` is the run, `owner_id` the line's holder."""


@dataclass(frozen=True)
class QueuedLine:
    """A line that is to be paid out: its number, figures, provider, to whom, and how many payouts it has had.

    `recipient`: the provider's handle for the beneficiary; None when that was disabled.
    """

    number: int
    line: Line
    rail: str
    beneficiary_id: str
    recipient: str | None
    payouts: int


@dataclass(frozen=True)
class OpenWork:
    """What a run that pays has left. `unsent`: lines are queued, or payouts may be sent now; `due`: payouts that the provider
    is to be asked about now; `open`: lines that have no end yet; `next_at`: when the earliest payout wants something."""

    unsent: bool
    due: int
    open: bool
    next_at: datetime | None
    blocked: str | None


_QUEUED: Final[LiteralString] = """
select l.line_no, l.holder_id, l.weight, l.share_minor, l.carried_in_minor, l.adjustment_minor, l.gross_minor, l.tax_minor,
       l.platform_fee_minor, l.provider_fee_minor, l.net_minor, l.carried_out_minor, l.rail, l.beneficiary_id, l.payouts,
       (select b.recipient from beneficiaries b where b.id = l.beneficiary_id and b.status = 'verified') as recipient
  from distribution_lines l
 where l.distribution_id = %s and l.line_no between %s and %s and l.status = 'queued' and l.rail is not null
 order by l.line_no limit %s for update of l
"""

# The approval is the run's.
_MAKE: Final[LiteralString] = """
insert into payouts (tenant_id, mode, id, reference, owner_id, beneficiary_id, reason, subject_id, source_account, provider,
                     recipient, amount_minor, currency, status, requested_by, decided_by, decided_at, created_at)
select %(tenant)s, %(mode)s, n.id, replace(n.id, '_', '-'), n.owner, n.beneficiary, %(reason)s, %(run)s, %(source)s, n.provider,
       n.recipient, n.minor, %(currency)s, 'approved', %(requested_by)s, %(decided_by)s, %(decided_at)s, %(as_of)s
  from unnest(%(ids)s::text[], %(owners)s::text[], %(beneficiaries)s::text[], %(providers)s::text[], %(recipients)s::text[],
              %(minors)s::bigint[]) as n(id, owner, beneficiary, provider, recipient, minor)
"""
_MADE: Final[LiteralString] = """
update distribution_lines l
   set status = 'sending', payout_id = n.id, error_code = null, payouts = payouts + 1, updated_at = now()
  from unnest(%(numbers)s::int[], %(ids)s::text[]) as n(line_no, id)
 where l.distribution_id = %(run)s and l.line_no = any(%(numbers)s) and l.line_no = n.line_no
"""

# In two steps: joined, the two tables would be read whole for every chunk.
_SENDING: Final[LiteralString] = """
select line_no, payout_id from distribution_lines
 where distribution_id = %s and line_no between %s and %s and status = 'sending' order by line_no limit %s
"""
_SENDABLE: Final[LiteralString] = """
select p.* from payouts p
 where p.id = any(%s) and p.status = 'approved' and (p.next_action_at is null or p.next_action_at <= %s)
   and exists (select from beneficiaries b where b.id = p.beneficiary_id and b.status = 'verified')
 order by p.id for update of p skip locked
"""

# Of what is approved only that whose beneficiary was disabled: everything else is sent by the range of its line.
_DUE: Final[LiteralString] = """
from payouts p
 where p.reason = 'distribution' and p.subject_id = %(run)s and (p.next_action_at is null or p.next_action_at <= %(as_of)s)
   and (p.status in ('sending', 'unknown', 'pending') or p.status = 'approved' and exists (
        select from beneficiaries b where b.id = p.beneficiary_id and b.status <> 'verified'))
"""

_OPEN: Final[LiteralString] = f"""
select exists (select from distribution_lines where distribution_id = %(run)s and status = 'queued')
       or exists (select from payouts p where p.reason = 'distribution' and p.subject_id = %(run)s and p.status = 'approved'
                     and (p.next_action_at is null or p.next_action_at <= %(as_of)s) and exists (
                         select from beneficiaries b where b.id = p.beneficiary_id and b.status = 'verified')) as unsent,
       (select count(*)::int {_DUE}) as due, o.n > 0 as open, o.next_at, o.blocked
  from (select count(*) as n, min(next_action_at) as next_at, max(blocked_reason) as blocked from payouts
         where reason = 'distribution' and subject_id = %(run)s
           and status in ('approved', 'sending', 'unknown', 'pending')) o
"""  # noqa: S608  constant text


async def open_work(tx: Tx, run: Distribution, as_of: datetime) -> OpenWork:
    """What is left to do for a run that pays."""
    row = await fetch_one(tx, _OPEN, {"run": run.id, "as_of": as_of})
    assert row is not None
    return OpenWork(**row)


async def queued_payouts(tx: Tx, run: Distribution, first: int, last: int, limit: int) -> list[QueuedLine]:
    """The next lines of a range that are queued for a provider, held until the transaction ends."""
    rows = await (await tx.execute(_QUEUED, (run.id, first, last, limit))).fetchall()
    own = ("rail", "beneficiary_id", "recipient", "payouts")
    return [
        QueuedLine(row.pop("line_no"), **{name: row.pop(name) for name in own},
                   line=Line(**row | {"weight": int(row["weight"])}))
        for row in rows
    ]  # fmt: skip


async def make_payouts(tx: Tx, scope: Scope, run: Distribution, lines: Sequence[QueuedLine], as_of: datetime) -> None:
    """A payout for each line, approved with the run, its money held out of the payable account.

    A line whose beneficiary was disabled since the run began fails. Raises as `ledger.post_many`, and then nothing is there.
    """
    for each in lines:
        if each.recipient is None:
            await fail_line(tx, run, each.number, "beneficiary_disabled")
    lines = [each for each in lines if each.recipient is not None]
    ids = [derive_id("pyo", scope, run.id, str(each.number), str(each.payouts)) for each in lines]
    values: dict[str, Any] = {
        "tenant": scope.tenant_id, "mode": str(scope.mode), "run": run.id, "reason": REASON, "currency": run.currency,
        "source": distribution_payable(run.campaign_id, run.currency).code, "requested_by": run.declared_by,
        "decided_by": run.decided_by, "decided_at": run.decided_at, "as_of": as_of, "ids": ids,
        "numbers": [each.number for each in lines], "owners": [each.line.holder_id for each in lines],
        "beneficiaries": [each.beneficiary_id for each in lines], "providers": [each.rail for each in lines],
        "recipients": [each.recipient for each in lines], "minors": [each.line.net_minor for each in lines],
    }  # fmt: skip
    await tx.execute(_MAKE, values)
    await tx.execute(_MADE, values)
    await timeline.record(tx, scope, ids, "payout_requested", as_of, {"status": PayoutStatus.APPROVED})
    holds = [
        distribution_sending(
            payout_key(payout_id, "hold"), campaign_id=run.campaign_id, provider=each.rail, currency=run.currency,
            line=each.line, as_of=as_of,
        )
        for payout_id, each in zip(ids, lines, strict=True)
    ]  # fmt: skip
    await ledger.post_many(tx, holds)


async def sendable(
    tx: Tx, run: Distribution, first: int, last: int, *, as_of: datetime, limit: int
) -> tuple[list[Payout], int]:
    """Payouts that may be sent now, of at most `limit` lines from number `first` on, held until the transaction ends; and the
    number of the last line that was looked at (`last`, when there are no more)."""
    lines = await (await tx.execute(_SENDING, (run.id, first, last, limit))).fetchall()
    payouts = await read_all(tx, Payout, _SENDABLE, ([line["payout_id"] for line in lines], as_of))
    return payouts, lines[-1]["line_no"] if len(lines) == limit else last


async def due_by_provider(tx: Tx, run: Distribution, as_of: datetime) -> dict[str, tuple[int, datetime]]:
    """By provider: how many payouts it is to be asked about, and when the first of them was made."""
    query = f"select p.provider, count(*)::int as n, min(p.created_at) as since {_DUE} group by p.provider"
    rows = await (await tx.execute(query, {"run": run.id, "as_of": as_of})).fetchall()
    return {row["provider"]: (row["n"], row["since"]) for row in rows}


async def due_payouts(tx: Tx, run: Distribution, as_of: datetime, after: str, limit: int) -> list[str]:
    """Their ids, in order, after `after`."""
    query = f"select p.id {_DUE} and p.id > %(after)s order by p.id limit %(limit)s"
    values = {"run": run.id, "as_of": as_of, "after": after, "limit": limit}
    return [row["id"] for row in await (await tx.execute(query, values)).fetchall()]


async def listed_payouts(tx: Tx, run: Distribution, references: Sequence[str]) -> dict[str, Payout]:
    """By reference: the run's payouts that are on their way, of those the provider names; held until the transaction ends."""
    rows = await read_all(
        tx,
        Payout,
        "select * from payouts where reference = any(%s) and status = any(%s) order by id for update",
        (list(references), [str(each) for each in (PayoutStatus.SENDING, PayoutStatus.UNKNOWN, PayoutStatus.PENDING)]),
    )  # by the references alone: a run's open payouts are many more than a page's
    return {each.reference: each for each in rows if each.subject_id == run.id}


async def move_payouts(
    tx: Tx, scope: Scope, ids: Sequence[str], target: PayoutStatus, as_of: datetime, *, next_at: datetime | None,
    blocked: str | None = None, told: str | None = None,
) -> None:  # fmt: skip
    """Move payouts to a state that is no end, or ask again later where they stand in it already.

    `told`: the event for their timelines. Those whose state forbids it stay as they are.
    """
    if not ids:
        return
    sent = target in (
        PayoutStatus.PENDING,
        PayoutStatus.UNKNOWN,
    )  # from now on its look-ups count, see Payout.looked_up
    await tx.execute(
        """update payouts set status = %s, next_action_at = %s, blocked_reason = %s, updated_at = now(),
                  checks = case when %s and status not in ('unknown', 'pending') then 0 else checks end
                         + (%s::timestamptz is not null)::int
            where id = any(%s) and status = any(%s)""",
        (str(target), next_at, blocked, sent, next_at, list(ids), [str(target), *map(str, PAYOUT.sources(target))]),
    )
    if told:
        await timeline.record(tx, scope, ids, told, as_of)


async def name_payouts(tx: Tx, named: Sequence[tuple[str, str]]) -> None:
    """The provider's own ids for payouts that have none yet: (payout, provider's id)."""
    await tx.execute(
        """update payouts p set provider_id = n.provider_id from unnest(%s::text[], %s::text[]) as n(id, provider_id)
            where p.id = n.id and p.provider_id is null""",
        ([each for each, _ in named], [each for _, each in named]),
    )


async def succeed_payouts(
    tx: Tx, scope: Scope, payouts: Sequence[Payout], fees: dict[str, int], as_of: datetime
) -> None:
    """The provider sent them: their holds are posted, and what it took besides, by payout id, beside them.

    The caller holds the rows. Raises as `ledger.post_many`.
    """
    if not payouts:
        return
    ids = [each.id for each in payouts]
    await tx.execute(
        """update payouts p set status = 'succeeded', next_action_at = null, blocked_reason = null, updated_at = now(),
                  fee_minor = f.minor
             from unnest(%s::text[], %s::bigint[]) as f(id, minor) where p.id = f.id and p.status = any(%s)""",
        (ids, [fees.get(each, 0) for each in ids], list(map(str, PAYOUT.sources(PayoutStatus.SUCCEEDED)))),
    )
    await timeline.record(tx, scope, ids, "payout_succeeded", as_of)
    await close_cases(tx, scope, ids, "sent", as_of)
    postings = [payout_sent(each, as_of=as_of) for each in ids]
    postings += [
        payout_fee(each.id, provider=each.provider, fee=Money(fees[each.id], each.currency), as_of=as_of)
        for each in payouts
        if fees.get(each.id)
    ]
    await ledger.post_many(tx, postings)


async def postpone(tx: Tx, payout_id: str, until: datetime) -> None:
    """Nothing could be asked about it now."""
    await tx.execute("update payouts set next_action_at = %s where id = %s", (until, payout_id))


async def postpone_rest(tx: Tx, run: Distribution, providers: Collection[str], until: datetime) -> None:
    """Try none of the run's payouts that may be sent before `until`: the provider takes nothing."""
    await tx.execute(
        """with rest as materialized (
               select id from payouts where reason = 'distribution' and subject_id = %s and provider = any(%s)
                  and status = 'approved' and (next_action_at is null or next_action_at < %s)
                order by id for update skip locked)
           update payouts p set next_action_at = %s, updated_at = now() from rest where p.id = rest.id""",
        (run.id, list(providers), until, until),
    )


async def make_due(tx: Tx, payout: Payout, as_of: datetime) -> bool:
    """Somebody has news of a payout that is on its way: it is looked up next. Whether its run's process is to be told.

    It is told once until it looks: a run has a hundred thousand payouts, and one process.
    """
    await tx.execute(
        """update payouts set next_action_at = %s, updated_at = now()
            where id = %s and status in ('approved', 'sending', 'unknown', 'pending') and next_action_at > %s""",
        (as_of, payout.id, as_of),
    )
    done = await tx.execute(
        """update distributions set woken = true, updated_at = now()
            where id = %s and not woken and status = 'paying'""",
        (payout.subject_id,),
    )
    return done.rowcount == 1


_SENT = """
select count(*)::int as n
  from distribution_lines l
  join payouts p on p.id = l.payout_id and p.status = 'succeeded'
  join ledger_transfers t on t.key = 'payout/' || p.id || '/post' and t.part = 1
 where l.distribution_id = %s and l.status = 'paid'
"""


async def sent(tx: Tx, run: Distribution) -> int:
    """How many lines of the run are paid out by their payouts and the ledger."""
    row = await fetch_one(tx, _SENT, (run.id,))
    return row["n"] if row else 0
