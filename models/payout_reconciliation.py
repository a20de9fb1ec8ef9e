"""What the rows and the ledger say about money that was paid out, for comparison with the providers' own lists (A2).

For the audit role, which reads every tenant. Set-based: a statement per question, however many payouts there are.
"""

from dataclasses import dataclass
from datetime import datetime

from infra.database import Tx
from models.provider import ProviderAccount

# What is posted and not reversed has left; a fee is not part of what the beneficiary got.
_SENT = """
with moved as (
    select split_part(t.key, '/', 2) as payout_id,
           sum(case when t.credit_id = a.id then t.amount_minor else -t.amount_minor end)::bigint as minor
      from ledger_accounts a
      join ledger_transfers t on (t.tenant_id, t.mode) = (a.tenant_id, a.mode) and (t.debit_id = a.id or t.credit_id = a.id)
       and t.phase in ('single', 'post', 'reversal') and t.key like 'payout/%%' and t.key not like 'payout/%%/fee'
     where (a.tenant_id, a.mode) = (%(tenant)s, %(mode)s) and a.code like 'provider:' || %(provider)s || ':%%'
     group by 1
)
select coalesce(p.reference, m.payout_id) as reference,
       case when p.status = 'succeeded' then p.amount_minor else 0 end as row_minor, coalesce(m.minor, 0)::bigint as ledger_minor,
       coalesce(p.status in ('approved', 'sending', 'unknown', 'pending') or p.updated_at >= %(begun)s, false) as in_flight
  from (select * from payouts where (tenant_id, mode, provider) = (%(tenant)s, %(mode)s, %(provider)s)) p
  full join moved m on m.payout_id = p.id
"""

# Each payout has one hold of its amount, out of the account it names, resolved as its state says. (A distribution line's has
# tax and fees as further parts: `models/distribution_audit.py`.)
_HOLDS = """
select p.tenant_id, p.mode, p.id, p.status, p.amount_minor, p.source_account, h.amount_minor as held, a.code as held_from,
       r.phase::text as resolved, v.id is not null as reversed
  from payouts p
  left join ledger_transfers h on (h.tenant_id, h.mode) = (p.tenant_id, p.mode)
       and h.key = 'payout/' || p.id || '/hold' and h.phase = 'pending' and h.part = 1
  left join ledger_accounts a on (a.tenant_id, a.mode, a.id) = (h.tenant_id, h.mode, h.debit_id)
  left join ledger_transfers r on (r.target_id, r.part) = (h.id, h.part) and r.phase <> 'reversal'
  left join ledger_transfers v on (v.target_id, v.part) = (r.id, r.part) and v.phase = 'reversal'
 where (h.amount_minor, a.code) is distinct from (p.amount_minor, p.source_account)
    or coalesce(r.phase::text, 'none') <> case when p.status in ('succeeded', 'returned') then 'post'
           when p.status in ('failed', 'canceled', 'rejected') then 'void' else 'none' end
    or (v.id is not null) <> (p.status = 'returned')
"""


@dataclass(frozen=True)
class Sent:
    """One reference's money out as our rows and our ledger see it, in minor units. `in_flight`: it is not decided, or was
    only while the provider was asked."""

    rows: int
    ledger: int
    in_flight: bool


async def sent_side(tx: Tx, account: ProviderAccount, begun: datetime) -> dict[str, Sent]:
    """Our rows and our ledger about one provider account, by reference. `begun`: see `models.reconciliation.begin`."""
    values = {"tenant": account.tenant_id, "mode": account.mode, "provider": account.provider, "begun": begun}
    found = await (await tx.execute(_SENT, values)).fetchall()
    return {row["reference"]: Sent(row["row_minor"], row["ledger_minor"], row["in_flight"]) for row in found}


async def first_payout_at(tx: Tx, account: ProviderAccount) -> datetime | None:
    """Business time of the earliest payout there."""
    query = "select min(created_at) as at from payouts where (tenant_id, mode, provider) = (%s, %s, %s)"
    row = await (await tx.execute(query, (account.tenant_id, account.mode, account.provider))).fetchone()
    return row["at"] if row else None


async def wrong_holds(tx: Tx) -> list[str]:
    """Payouts whose hold is missing, of another amount or account, or not resolved as their state says; in words."""
    found = await (await tx.execute(_HOLDS)).fetchall()
    return [
        f"{row['tenant_id']}/{row['mode']} payout {row['id']} is {row['status']} with {row['amount_minor']} from "
        f"{row['source_account']}; its hold is of {row['held']} from {row['held_from']}, resolved by {row['resolved']}"
        f"{', reversed' if row['reversed'] else ''}"
        for row in found
    ]
