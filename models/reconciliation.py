"""What the rows and the ledger say about money at providers, for comparison with the providers' own lists (A2, A9).

For the audit role, which reads every tenant. Set-based: a statement per question, however many payments there are.
"""

from dataclasses import dataclass
from datetime import datetime

from infra.database import Tx
from models.chargeback import LEFT_ESCROW
from models.provider import ProviderAccount


@dataclass(frozen=True)
class Side:
    """One reference's money as one party sees it, in minor units. `in_flight`: a call about it has no answer yet, or it moved
    while the provider was asked. `unbooked`: something else was taken than was asked, and nothing of it is in our books."""

    captured: int
    refunded: int
    in_flight: bool = False
    provider_id: str | None = None
    unbooked: bool = False


# An effect's row may stay open although a look-up told long ago, and an attempt that its rail could not stop stays pending
# after its payment: neither is a call under way. But a range of calls writes its effects down before the attempts they are
# about. What was written since the list was begun may be younger than its page.
_ROWS = """
select a.reference, a.provider_id, a.captured_minor, a.refunded_minor,
    a.status = 'integrity_failure' and a.captured_minor = 0 as unbooked,
    a.status in ('started', 'unknown')
    or (a.status in ('pending', 'requires_action') and p.status not in ('succeeded', 'failed', 'canceled', 'expired'))
    or (a.status = 'authorized' and exists (
        select from effects f where (f.tenant_id, f.mode) = (a.tenant_id, a.mode)
           and (f.status = 'claimed' or (f.status in ('unknown', 'done') and f.settled_at > a.updated_at))
           and f.key in ('attempt/' || a.reference || '/capture', 'attempt/' || a.reference || '/void',
                         'attempt/' || a.reference || '/late_void')))
    or exists (select from refunds r where (r.tenant_id, r.mode, r.attempt_reference) = (a.tenant_id, a.mode, a.reference)
               and (r.status in ('requested', 'pending', 'unknown') or r.updated_at >= %(begun)s))
    or a.updated_at >= %(begun)s as in_flight
from payment_attempts a join payments p on (p.tenant_id, p.mode, p.id) = (a.tenant_id, a.mode, a.payment_id)
where (a.tenant_id, a.mode, a.provider) = (%(tenant)s, %(mode)s, %(provider)s)
"""
# No provider lists a chargeback with its payments: to it the money is captured, and not refunded.
_LEDGER = """
with moved as (
    select t.key, sum(case when t.debit_id = a.id then t.amount_minor else -t.amount_minor end)::bigint as amount
    from ledger_accounts a
    join ledger_transfers t on (t.tenant_id, t.mode) = (a.tenant_id, a.mode) and (t.debit_id = a.id or t.credit_id = a.id)
      and t.phase in ('single', 'post', 'reversal') and t.key not like 'payout/%%'
      and t.event <> 'pledge_charged_back'
    where (a.tenant_id, a.mode) = (%(tenant)s, %(mode)s) and a.code like 'provider:' || %(provider)s || ':%%'
    group by t.key
)
select coalesce(r.attempt_reference, split_part(m.key, '/', 2)) as reference,
    coalesce(sum(m.amount) filter (where m.key like 'attempt/%%'), 0)::bigint as captured,
    coalesce(-sum(m.amount) filter (where m.key like 'refund/%%'), 0)::bigint as refunded
from moved m
left join refunds r on (r.tenant_id, r.mode, r.id) = (%(tenant)s, %(mode)s, split_part(m.key, '/', 2))
group by 1
"""
_COUNTERS = f"""
select c.tenant_id, c.mode, c.id, c.pledged_minor, c.held_minor, c.captured_minor,
    coalesce(sum(i.amount_minor) filter (where i.status in ('pledged', 'awaiting_payment')), 0)::bigint as pledged,
    coalesce(sum(i.amount_minor) filter (where i.status = 'held'), 0)::bigint as held,
    coalesce(sum(i.amount_minor) filter (where i.status = 'captured' and not {LEFT_ESCROW}), 0)::bigint as captured,
    c.cap_minor
from campaigns c left join investments i on (i.tenant_id, i.mode, i.campaign_id) = (c.tenant_id, c.mode, c.id)
group by c.tenant_id, c.mode, c.id
"""  # noqa: S608  constant text
# Late or mismatched money was never the payment's: it went to suspense, and back.
_UNMATCHED = """
with captured as (
    select a.tenant_id, a.mode, a.payment_id, sum(a.captured_minor)::bigint as minor from payment_attempts a
    where a.status = 'captured' and not exists (
        select from refunds r where (r.tenant_id, r.mode, r.attempt_reference) = (a.tenant_id, a.mode, a.reference)
          and r.reason in ('late_success', 'amount_mismatch'))
    group by 1, 2, 3
)
select p.tenant_id, p.mode, p.id, p.captured_minor, p.refunded_minor, p.status, i.status as pledge,
       coalesce(x.minor, 0) as captured
from payments p
left join captured x on (x.tenant_id, x.mode, x.payment_id) = (p.tenant_id, p.mode, p.id)
left join investments i on (i.tenant_id, i.mode, i.payment_id) = (p.tenant_id, p.mode, p.id)
where (p.status = 'succeeded' and p.captured_minor <> coalesce(x.minor, 0))
    or (p.status <> 'succeeded' and p.captured_minor <> 0)
    or (i.status in ('captured', 'refunding') and p.status <> 'succeeded')
    or (i.status in ('refunded', 'credited_to_wallet') and p.refunded_minor <> p.captured_minor)
"""


async def begin(tx: Tx) -> datetime:
    """The database's time, before a provider's list is read: what changes from then on may be missing there."""
    row = await (await tx.execute("select now() as at")).fetchone()
    assert row is not None
    at: datetime = row["at"]
    return at


async def our_sides(tx: Tx, account: ProviderAccount, begun: datetime) -> tuple[dict[str, Side], dict[str, Side]]:
    """`rows_side` and `ledger_side` at one instant. The first statement of `tx` must be ours."""
    await tx.execute("set transaction isolation level repeatable read, read only")
    return await rows_side(tx, account, begun), await ledger_side(tx, account)


async def rows_side(tx: Tx, account: ProviderAccount, begun: datetime) -> dict[str, Side]:
    """Our rows about one provider account, by attempt reference. `begun`: see `begin`."""
    found = await (await tx.execute(_ROWS, _of(account) | {"begun": begun})).fetchall()
    return {
        row["reference"]: Side(
            row["captured_minor"], row["refunded_minor"], row["in_flight"], row["provider_id"], row["unbooked"]
        )
        for row in found
    }


async def ledger_side(tx: Tx, account: ProviderAccount) -> dict[str, Side]:
    """What the ledger booked through one provider's clearing account, by attempt reference."""
    found = await (await tx.execute(_LEDGER, _of(account))).fetchall()
    return {row["reference"]: Side(row["captured"], row["refunded"]) for row in found}


async def first_attempt_at(tx: Tx, account: ProviderAccount) -> datetime | None:
    """Business time of the earliest attempt there."""
    row = await (
        await tx.execute(
            """select min(started_at) as at from payment_attempts
               where (tenant_id, mode, provider) = (%(tenant)s, %(mode)s, %(provider)s)""",
            _of(account),
        )
    ).fetchone()
    return row["at"] if row else None


async def wrong_counters(tx: Tx) -> list[str]:
    """Campaigns whose counters differ from their investments, or exceed their cap; in words."""
    found = await (await tx.execute(_COUNTERS)).fetchall()
    return [
        f"{row['tenant_id']}/{row['mode']} campaign {row['id']}: counters "
        f"{row['pledged_minor']}/{row['held_minor']}/{row['captured_minor']} (pledged/held/captured), investments "
        f"{row['pledged']}/{row['held']}/{row['captured']}, cap {row['cap_minor']}"
        for row in found
        if (row["pledged_minor"], row["held_minor"], row["captured_minor"])
        != (row["pledged"], row["held"], row["captured"])
        or row["pledged"] + row["held"] + row["captured"] > row["cap_minor"]
    ]


async def unmatched_payments(tx: Tx) -> list[str]:
    """Payments that disagree with their attempts or their investment; in words."""
    found = await (await tx.execute(_UNMATCHED)).fetchall()
    return [
        f"{row['tenant_id']}/{row['mode']} payment {row['id']} is {row['status']} with {row['captured_minor']} captured and "
        f"{row['refunded_minor']} refunded; its attempts captured {row['captured']}, its investment is {row['pledge']}"
        for row in found
    ]


def _of(account: ProviderAccount) -> dict[str, object]:
    return {"tenant": account.tenant_id, "mode": account.mode, "provider": account.provider}
