"""Where a run's lines go: into wallets, out through providers, or nowhere yet. One statement for all of them."""

from collections.abc import Mapping, Sequence
from typing import Final, LiteralString

from psycopg.types.json import Jsonb

from domain.distribution import PayTo
from infra.database import Tx, fetch_one
from models.distribution import Distribution

# Who is held, and where each line goes: a provider only where the holder has a verified account with it in this currency. The
# lines stand here once: joined with themselves when they have just been written, they would be read once for each of them.
_DESTINED: Final[LiteralString] = """
with changed as (
    update distribution_lines l
       set status = case when l.net_minor = 0 then 'carried_forward' when d.held or d.unverified then 'held'
                         when %(carry)s and l.net_minor < d.least then 'carried_forward' else 'queued' end,
           error_code = case when l.net_minor = 0 then null when d.held then 'payout_hold' when d.unverified then 'kyc'
                             when %(carry)s and l.net_minor < d.least then 'below_payout_minimum' end,
           rail = case when not (d.held or d.unverified) and l.net_minor >= d.least then d.provider end,
           beneficiary_id = case when not (d.held or d.unverified) and l.net_minor >= d.least then d.beneficiary_id end,
           updated_at = now()
      from (select u.id, h.user_id is not null as held, u.kyc_level < %(kyc)s as unverified, b.provider,
                   b.id as beneficiary_id, (%(least)s::jsonb ->> b.provider)::bigint as least
              from users u
              left join payout_holds h on h.user_id = u.id and h.held
              left join payout_preferences w on %(preferred)s and w.user_id = u.id
              left join beneficiaries b on b.id = w.beneficiary_id and b.owner_id = u.id and b.status = 'verified'
                    and b.currency = %(currency)s and %(least)s::jsonb ? b.provider) d
     where l.distribution_id = %(id)s and l.status = any(%(from)s) and d.id = l.holder_id
    returning l.status)
select count(*) filter (where status = 'queued')::int as queued from changed
"""


async def queue_lines(tx: Tx, run: Distribution, *, kyc_level: int, least: Mapping[str, int]) -> None:
    """Every calculated line on its way: carried forward, held, or queued for the wallet or for a provider.

    `kyc_level`: what holders must be verified to. `least`: by provider, what it sends at least in the run's currency.
    """
    await _destine(tx, run, ("calculated",), kyc_level=kyc_level, least=least, carry=True, preferred=True)


async def requeue_lines(
    tx: Tx, run: Distribution, *, kyc_level: int, least: Mapping[str, int], to_wallet: bool = False
) -> int:
    """Put back what failed, was returned, or is held no more, under the same numbers; how many.

    Each goes where its holder wants it by now, or with `to_wallet` into the wallet. What a provider would not send because
    it is too little goes into the wallet too.
    """
    from_ = ("held", "failed", "returned")
    return await _destine(tx, run, from_, kyc_level=kyc_level, least=least, carry=False, preferred=not to_wallet)


async def _destine(
    tx: Tx, run: Distribution, statuses: Sequence[str], *, kyc_level: int, least: Mapping[str, int], carry: bool,
    preferred: bool,
) -> int:  # fmt: skip
    """How many lines are queued by it."""
    values = {"id": run.id, "currency": run.currency, "from": list(statuses), "kyc": kyc_level, "least": Jsonb(dict(least)),
              "carry": carry, "preferred": preferred and run.pay_to is PayTo.PREFERENCE}  # fmt: skip
    row = await fetch_one(tx, _DESTINED, values)
    return row["queued"] if row else 0
