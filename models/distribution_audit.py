"""What distributions say of themselves, held against their lines and the ledger (A7). For the audit role; changes nothing.

Each check is one statement, and so sees one instant: lines and money change in one transaction, and agree at every one.
"""

from typing import Final

from infra.database import Tx

LIMIT: Final = 1_000

_TOTALS = """
select d.tenant_id || '/' || d.mode || ' distribution ' || d.id as subject,
       'totals ' || concat_ws(', ', d.lines, d.share_minor, d.gross_minor, d.tax_minor, d.platform_fee_minor,
           d.provider_fees_minor, d.net_minor, d.kept_minor, d.recovered_minor, d.added_minor)
       || ', its lines ' || concat_ws(', ', l.lines, l.share, l.gross, l.tax, l.platform_fee, l.provider_fee, l.net, l.kept,
           l.recovered, l.added)
       || ' (lines, share, gross, tax, platform fee, provider fee, net, kept, recovered, added), distributable '
       || portion(d.declared_profit_minor, d.profit_share_bps, d.share_rounding) as detail
  from distributions d
 cross join lateral (
       select count(*) as lines, coalesce(sum(share_minor), 0) as share, coalesce(sum(carried_in_minor), 0) as carried_in,
              coalesce(sum(adjustment_minor), 0) as adjustment, coalesce(sum(gross_minor), 0) as gross,
              coalesce(sum(tax_minor), 0) as tax, coalesce(sum(platform_fee_minor), 0) as platform_fee,
              coalesce(sum(provider_fee_minor), 0) as provider_fee, coalesce(sum(net_minor), 0) as net,
              coalesce(sum(carried_out_minor), 0) as carried_out, coalesce(sum(greatest(0, carried_out_minor)), 0) as kept,
              coalesce(sum(greatest(0, share_minor + kept_in_minor - gross_minor - greatest(0, carried_out_minor))), 0)
                  as recovered,
              coalesce(sum(greatest(0, gross_minor + greatest(0, carried_out_minor) - share_minor - kept_in_minor)), 0) as added
         from distribution_lines x
        where x.tenant_id = d.tenant_id and x.mode = d.mode and x.distribution_id = d.id) l
 where not d.dry_run and d.error_code is null
   and d.status in ('calculated', 'pending_approval', 'approved', 'funding', 'paying', 'partially_paid', 'paid')
   and ((d.lines, d.share_minor, d.carried_in_minor, d.adjustment_minor, d.gross_minor, d.tax_minor, d.platform_fee_minor,
         d.provider_fees_minor, d.net_minor, d.carried_out_minor, d.kept_minor, d.recovered_minor, d.added_minor)
        is distinct from (l.lines, l.share, l.carried_in, l.adjustment, l.gross, l.tax, l.platform_fee, l.provider_fee, l.net,
         l.carried_out, l.kept, l.recovered, l.added)
        or d.share_minor <> portion(d.declared_profit_minor, d.profit_share_bps, d.share_rounding))
"""

# Line by line: who was credited, and what each leg moved.
_CREDITED = """
with booked as (
    select t.tenant_id, t.mode, split_part(t.key, '/', 2) as distribution_id, split_part(t.key, '/', 3)::int as line_no,
           max(split_part(c.code, ':', 2)) filter (where c.code like 'wallet:%') as holder_id,
           sum(t.amount_minor) filter (where d.code like 'payable:%') as gross,
           sum(t.amount_minor) filter (where c.code like 'wallet:%') as net,
           coalesce(sum(t.amount_minor) filter (where c.code like 'tax_withheld:%'), 0) as tax,
           coalesce(sum(t.amount_minor) filter (where c.code like 'platform_fees:%'), 0) as platform_fee,
           coalesce(sum(t.amount_minor) filter (where c.code like 'provider_fees:%'), 0) as provider_fee
      from ledger_transfers t
      join ledger_accounts c on c.tenant_id = t.tenant_id and c.mode = t.mode and c.id = t.credit_id
      join ledger_accounts d on d.tenant_id = t.tenant_id and d.mode = t.mode and d.id = t.debit_id
     where t.event = 'distribution_credited' and t.key ~ '^distribution/[^/]+/[0-9]+$'
     group by 1, 2, 3, 4
), credited as (
    select * from distribution_lines where status = 'credited_to_wallet'
)
select concat_ws('/', coalesce(l.tenant_id, b.tenant_id), coalesce(l.mode, b.mode)) || ' distribution '
       || coalesce(l.distribution_id, b.distribution_id) || ' line ' || coalesce(l.line_no, b.line_no) as subject,
       case when l.line_no is null then 'is not credited' else 'credits ' || concat_ws(', ', l.holder_id, l.gross_minor,
           l.net_minor, l.tax_minor, l.platform_fee_minor, l.provider_fee_minor) end
       || ', the ledger ' || case when b.line_no is null then 'nothing' else concat_ws(', ', b.holder_id, b.gross, b.net, b.tax,
           b.platform_fee, b.provider_fee) end || ' (holder, gross, net, tax, platform fee, provider fee)' as detail
  from credited l
  full join booked b on b.tenant_id = l.tenant_id and b.mode = l.mode and b.distribution_id = l.distribution_id
       and b.line_no = l.line_no
 where (l.holder_id, l.gross_minor, l.net_minor, l.tax_minor, l.platform_fee_minor, l.provider_fee_minor)
       is distinct from (b.holder_id, b.gross, b.net, b.tax, b.platform_fee, b.provider_fee)
"""

# Line by line: what went out through a provider and was not returned, and what each leg of its payout's hold moved.
_PAID_OUT = """
with booked as (
    select t.tenant_id, t.mode, split_part(t.key, '/', 2) as payout_id, sum(t.amount_minor) as gross,
           max(split_part(c.code, ':', 2)) filter (where c.code like 'provider:%') as rail,
           sum(t.amount_minor) filter (where c.code like 'provider:%') as net,
           coalesce(sum(t.amount_minor) filter (where c.code like 'tax_withheld:%'), 0) as tax,
           coalesce(sum(t.amount_minor) filter (where c.code like 'platform_fees:%'), 0) as platform_fee,
           coalesce(sum(t.amount_minor) filter (where c.code like 'provider_fees:%'), 0) as provider_fee
      from ledger_transfers t
      join ledger_accounts c on c.tenant_id = t.tenant_id and c.mode = t.mode and c.id = t.credit_id
      join ledger_accounts d on d.tenant_id = t.tenant_id and d.mode = t.mode and d.id = t.debit_id and d.code like 'payable:%'
     where t.event = 'payout_sent' and not exists (
           select from ledger_transfers r where r.target_id = t.id and r.part = t.part and r.phase = 'reversal')
     group by 1, 2, 3
), paid as (
    select * from distribution_lines where status = 'paid'
)
select concat_ws('/', coalesce(l.tenant_id, b.tenant_id), coalesce(l.mode, b.mode)) || ' distribution '
       || coalesce(l.distribution_id || ' line ' || l.line_no, 'payout ' || b.payout_id) as subject,
       case when l.line_no is null then 'is not paid out' else 'pays out ' || concat_ws(', ', l.rail, l.gross_minor, l.net_minor,
           l.tax_minor, l.platform_fee_minor, l.provider_fee_minor) end
       || ', the ledger ' || case when b.payout_id is null then 'nothing' else concat_ws(', ', b.rail, b.gross, b.net, b.tax,
           b.platform_fee, b.provider_fee) end || ' (provider, gross, net, tax, platform fee, provider fee)' as detail
  from paid l
  full join booked b on b.tenant_id = l.tenant_id and b.mode = l.mode and b.payout_id = l.payout_id
 where (l.rail, l.gross_minor, l.net_minor, l.tax_minor, l.platform_fee_minor, l.provider_fee_minor)
       is distinct from (b.rail, b.gross, b.net, b.tax, b.platform_fee, b.provider_fee)
"""

# A line says what its newest payout says, until it is put back in the queue or set aside; the earlier ones brought nothing.
_FOLLOWED = """
select l.tenant_id || '/' || l.mode || ' distribution ' || l.distribution_id || ' line ' || l.line_no as subject,
       'is ' || l.status || ' with ' || l.net_minor || ', its payout ' || coalesce(l.payout_id, 'none') || ' is '
       || coalesce(p.status || ' with ' || p.amount_minor || ' to ' || p.owner_id, 'missing') as detail
  from distribution_lines l
  left join payouts p on p.tenant_id = l.tenant_id and p.mode = l.mode and p.id = l.payout_id
 where (l.payout_id is not null or l.status in ('sending', 'unknown', 'paid', 'returned'))
   and coalesce((p.owner_id, p.subject_id, p.reason, p.amount_minor)
                <> (l.holder_id, l.distribution_id, 'distribution', l.net_minor)
       or case when p.status in ('failed', 'canceled', 'rejected') then l.status in ('sending', 'unknown', 'paid', 'returned')
               when p.status = 'returned' then l.status in ('sending', 'unknown', 'paid')
               else l.status <> case p.status when 'succeeded' then 'paid' when 'unknown' then 'unknown' else 'sending' end end,
       true)
union all
select p.tenant_id || '/' || p.mode || ' payout ' || p.id, 'is ' || p.status || ' for a line of ' || p.subject_id
       || ' that has another payout, or is none'
  from payouts p
  left join distribution_lines l on l.tenant_id = p.tenant_id and l.mode = p.mode and l.distribution_id = p.subject_id
       and l.holder_id = p.owner_id
 where p.reason = 'distribution' and l.payout_id is distinct from p.id
   and (l.line_no is null or p.status not in ('failed', 'canceled', 'rejected', 'returned'))
"""

# What a campaign still owes its holders: lines on their way, and what is carried until a later run has taken it over.
_OWED = """
with owed as (
    select l.tenant_id, l.mode, 'payable:' || d.campaign_id || ':' || d.currency as code,
           sum(case when l.status in ('queued', 'sending', 'unknown', 'held', 'failed', 'returned') then l.gross_minor
                    when l.status = 'carried_forward' and t.id is null and l.carried_into is distinct from 'unclaimed'
                    then greatest(0, l.gross_minor + l.carried_out_minor)
                    else 0 end) as minor
      from distributions d
      join distribution_lines l on l.tenant_id = d.tenant_id and l.mode = d.mode and l.distribution_id = d.id
      left join distributions t on t.tenant_id = l.tenant_id and t.mode = l.mode and t.id = l.carried_into
           and t.status in ('paying', 'partially_paid', 'paid')
     where d.status in ('paying', 'partially_paid', 'paid') and not d.dry_run
     group by 1, 2, 3
), held as (
    select a.tenant_id, a.mode, a.code, -sum(b.posted_minor) as minor
      from ledger_accounts a
      join ledger_balances b on b.tenant_id = a.tenant_id and b.mode = a.mode and b.account_id = a.id
     where a.code like 'payable:%' group by 1, 2, 3
)
select concat_ws('/', coalesce(o.tenant_id, h.tenant_id), coalesce(o.mode, h.mode)) || ' ' || coalesce(o.code, h.code) as subject,
       'the lines owe ' || coalesce(o.minor, 0) || ', the ledger holds ' || coalesce(h.minor, 0) as detail
  from owed o full join held h on h.tenant_id = o.tenant_id and h.mode = o.mode and h.code = o.code
 where coalesce(o.minor, 0) <> coalesce(h.minor, 0)
"""

# What was carried, or taken back, stands in the line that took it over.
_TAKEN = """
select n.tenant_id || '/' || n.mode || ' distribution ' || n.distribution_id || ' line ' || n.line_no as subject,
       'carries in ' || n.carried_in_minor || ' and adjusts ' || n.adjustment_minor || ', it took over '
       || coalesce(c.minor, 0) || ' and ' || coalesce(a.minor, 0) as detail
  from distribution_lines n
  join distributions d on d.tenant_id = n.tenant_id and d.mode = n.mode and d.id = n.distribution_id
       and d.status not in ('rejected', 'canceled')
  left join (select tenant_id, mode, carried_into, holder_id, sum(gross_minor + carried_out_minor) as minor
               from distribution_lines where carried_into <> 'unclaimed' group by 1, 2, 3, 4) c
    on c.tenant_id = n.tenant_id and c.mode = n.mode and c.carried_into = n.distribution_id and c.holder_id = n.holder_id
  left join (select tenant_id, mode, distribution_id, holder_id, sum(amount_minor) as minor
               from distribution_adjustments where distribution_id is not null group by 1, 2, 3, 4) a
    on a.tenant_id = n.tenant_id and a.mode = n.mode and a.distribution_id = n.distribution_id and a.holder_id = n.holder_id
 where n.carried_in_minor <> coalesce(c.minor, 0) or n.adjustment_minor <> coalesce(a.minor, 0)
"""


async def wrong_distributions(tx: Tx) -> list[str]:
    """Runs that differ from their lines, lines from the ledger, campaigns from what they owe; in words, at most LIMIT a check."""
    found = []
    for check in (_TOTALS, _CREDITED, _PAID_OUT, _FOLLOWED, _OWED, _TAKEN):
        rows = await (await tx.execute(f"{check} limit {LIMIT}")).fetchall()
        found += [f"{row['subject']}: {row['detail']}" for row in rows]
    return found
