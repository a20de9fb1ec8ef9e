"""Money given back into wallets: rows against the ledger (A2). Nobody outside keeps a list of it.

For the audit role, which reads every tenant. Set-based: a statement per question, however many refunds there are.
"""

from infra.database import Tx

# A refund through the wallet is in its payer's wallet exactly when its row says so, in full.
_BOOKED = """
select r.tenant_id, r.mode, r.id, r.status, r.amount_minor, t.amount_minor as booked, a.code
  from refunds r
  join payments p on (p.tenant_id, p.mode, p.id) = (r.tenant_id, r.mode, r.payment_id)
  left join ledger_transfers t on (t.tenant_id, t.mode) = (r.tenant_id, r.mode)
       and t.key = 'refund/' || r.id || '/post' and t.phase = 'post'
  left join ledger_accounts a on (a.tenant_id, a.mode, a.id) = (t.tenant_id, t.mode, t.credit_id)
 where r.provider = 'wallet'
   and (t.amount_minor, a.code) is distinct from (
       case when r.status = 'succeeded' then r.amount_minor end,
       case when r.status = 'succeeded' then 'wallet:' || p.payer_id || ':' || r.currency end)
"""
_CREDITED = """
select i.tenant_id, i.mode, i.id, i.amount_minor
  from investments i
 where i.status = 'credited_to_wallet' and not exists (
       select from refunds r where (r.tenant_id, r.mode, r.payment_id) = (i.tenant_id, i.mode, i.payment_id)
          and r.provider = 'wallet' and r.status = 'succeeded' and r.amount_minor = i.amount_minor)
"""


async def wrong_credits(tx: Tx) -> list[str]:
    """Refunds through the wallet that the ledger does not know as their row says, and pledges credited without one; in words."""
    refunds = await (await tx.execute(_BOOKED)).fetchall()
    pledges = await (await tx.execute(_CREDITED)).fetchall()
    return [
        f"{row['tenant_id']}/{row['mode']} refund {row['id']} into the wallet is {row['status']} with {row['amount_minor']}; "
        f"the ledger has {row['booked']} on {row['code']}"
        for row in refunds
    ] + [
        f"{row['tenant_id']}/{row['mode']} investment {row['id']} of {row['amount_minor']} is credited without its refund"
        for row in pledges
    ]
