"""The books' auditor: every money invariant of the ledger, over all tenants, in set-based SQL. Changes nothing.

Runs as the audit role (`chama audit`), which sees every tenant without a scope; the tests run the same code after every
money test. Each finding names the broken row. An empty list means the books hold.

    A1  every transfer moves more than nothing between two accounts of its tenant and currency, and the parts of a
        transaction are alike: so every transaction sums to zero per currency
    A3  each cached balance equals the sum of its entries: replaying the journal gives the balances
    A4  no bounded account is below zero, holds counted
    A5  each hold is resolved at most once, within what it held; a reversal mirrors its target
    A6  transfers, audit records and the links of the hash chains cannot change: the triggers stand, and the app role may
        only read the ledger; the constraints that A1 and A5 lean on are in place

A7 (splits add up) is a property of `domain.money.allocate`; A2 joins provider, ledger and product rows elsewhere.
"""

from dataclasses import dataclass
from typing import Final

from infra.database import Tx

LIMIT: Final = 1_000
"""Findings per check: a broken book is repaired cause by cause, not read to the end."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken invariant: `subject` is `tenant/mode/key or account`, or the name of a database object."""

    invariant: str
    subject: str
    detail: str
    expected: str
    actual: str

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.invariant} {self.subject}: {self.detail}: expected {self.expected}, found {self.actual}"


_CROOKED = """
select x.tenant_id || '/' || x.mode || '/' || x.key as subject,
       'part ' || x.part || ' of ' || x.amount_minor || ' ' || x.currency as detail,
       'more than zero, between two accounts of that tenant and currency' as expected,
       concat_ws(', ', x.amount_minor, coalesce(d.code, 'no account'), coalesce(c.code, 'no account')) as actual
  from ledger_transfers x
  left join ledger_accounts d on d.tenant_id = x.tenant_id and d.mode = x.mode and d.id = x.debit_id
  left join ledger_accounts c on c.tenant_id = x.tenant_id and c.mode = x.mode and c.id = x.credit_id
 where x.amount_minor <= 0 or x.debit_id = x.credit_id or d.id is null or c.id is null
    or d.currency <> x.currency or c.currency <> x.currency
"""

_PARTS = """
select min(tenant_id || '/' || mode || '/' || key) as subject, 'parts of transaction ' || id as detail,
       'numbered from 1, under one key, alike but for accounts and amount' as expected,
       'parts ' || string_agg(part::text, ', ' order by part) || ' of ' || count(distinct h.header) || ' kinds' as actual
  from (select id, part, tenant_id, mode, key,
               md5(row(tenant_id, mode, key, event, phase, target_id, payload_hash, effective_at, expires_at, posted_at)::text)
                   as header
          from ledger_transfers) h
 group by id
having min(part) <> 1 or max(part) <> count(*) or count(distinct h.header) > 1
"""

_FROM_ENTRIES = """
with resolved as (
    select distinct tenant_id, mode, target_id from ledger_transactions where phase in ('post', 'void', 'expire')
), legs as (
    select e.tenant_id, e.mode, e.account_id, e.pending, e.amount_minor
      from ledger_entries e
      left join resolved r
        on e.pending and r.tenant_id = e.tenant_id and r.mode = e.mode and r.target_id = e.transaction_id
     where r.target_id is null
), open_entries as (
    select tenant_id, mode, account_id,
           coalesce(sum(amount_minor) filter (where not pending), 0)::bigint as posted,
           coalesce(sum(amount_minor) filter (where pending and amount_minor > 0), 0)::bigint as debit,
           coalesce(sum(-amount_minor) filter (where pending and amount_minor < 0), 0)::bigint as credit
      from legs group by tenant_id, mode, account_id
), cached as (
    select tenant_id, mode, account_id, sum(posted_minor)::bigint as posted, sum(pending_debit_minor)::bigint as debit,
           sum(pending_credit_minor)::bigint as credit, count(*) as rows
      from ledger_balances group by tenant_id, mode, account_id
)
"""

_BALANCES = f"""
{_FROM_ENTRIES}
select concat_ws('/', coalesce(e.tenant_id, c.tenant_id), coalesce(e.mode, c.mode),
                 coalesce(a.code, 'account ' || coalesce(e.account_id, c.account_id))) as subject,
       'cached balance (posted, pending debit, pending credit)' as detail,
       concat_ws(', ', coalesce(e.posted, 0), coalesce(e.debit, 0), coalesce(e.credit, 0)) as expected,
       case when c.account_id is null then 'no balance'
            else concat_ws(', ', c.posted, c.debit, c.credit) || ' in ' || c.rows || ' of ' || a.stripes || ' stripes'
       end as actual
  from open_entries e
  full join cached c on c.tenant_id = e.tenant_id and c.mode = e.mode and c.account_id = e.account_id
  left join ledger_accounts a on a.tenant_id = coalesce(e.tenant_id, c.tenant_id)
       and a.mode = coalesce(e.mode, c.mode) and a.id = coalesce(e.account_id, c.account_id)
 where (coalesce(e.posted, 0), coalesce(e.debit, 0), coalesce(e.credit, 0))
       is distinct from (c.posted, c.debit, c.credit)
    or c.rows is distinct from a.stripes
"""  # noqa: S608  constant text

_FLOORS = f"""
{_FROM_ENTRIES}
select a.tenant_id || '/' || a.mode || '/' || a.code as subject, 'available, holds counted' as detail,
       '>= 0' as expected, b.available::text as actual
  from open_entries e
  join ledger_accounts a on a.tenant_id = e.tenant_id and a.mode = e.mode and a.id = e.account_id
 cross join lateral (
       select case when a.kind in ('asset', 'expense') then e.posted - e.credit
                   else -e.posted - e.debit end as available) b
 where a.bounded and b.available < 0
"""  # noqa: S608  constant text

# A posting believes what a balance says of its account.
_RULES = """
select distinct b.tenant_id || '/' || b.mode || '/' || coalesce(a.code, 'account ' || b.account_id) as subject,
       'repeated in its balance (code, stripes, bounded, debit-normal, debits and credits freely)' as detail,
       concat_ws(', ', a.code, a.stripes, a.bounded, s.debit_normal, s.debits_freely, s.credits_freely) as expected,
       concat_ws(', ', b.code, b.stripes, b.bounded, b.debit_normal, b.debits_freely, b.credits_freely) as actual
  from ledger_balances b
  left join ledger_accounts a on a.tenant_id = b.tenant_id and a.mode = b.mode and a.id = b.account_id
 cross join lateral (
       select a.kind in ('asset', 'expense') as debit_normal, not a.bounded or a.kind in ('asset', 'expense') as debits_freely,
              not a.bounded or a.kind not in ('asset', 'expense') as credits_freely) s
 where (b.code, b.stripes, b.bounded, b.debit_normal, b.debits_freely, b.credits_freely)
       is distinct from (a.code, a.stripes, a.bounded, s.debit_normal, s.debits_freely, s.credits_freely)
"""

_RESOLUTIONS = """
select h.tenant_id || '/' || h.mode || '/' || coalesce(t.key, 'transaction ' || h.target_id) as subject,
       case when h.reversal then 'reversed by ' else 'resolved by ' end || h.keys as detail,
       case when h.reversal then 'one reversal of posted money' else 'one resolution of a hold' end as expected,
       h.times || ' of a ' || coalesce(t.phase::text, 'missing transaction') as actual
  from (select tenant_id, mode, target_id, phase = 'reversal' as reversal, count(*) as times,
               string_agg(key, ', ' order by id) as keys
          from ledger_transactions where target_id is not null group by 1, 2, 3, 4) h
  left join ledger_transactions t on t.tenant_id = h.tenant_id and t.mode = h.mode and t.id = h.target_id
 where h.times > 1 or t.id is null
    or case when h.reversal then t.phase not in ('single', 'post') else t.phase <> 'pending' end
union all
select tenant_id || '/' || mode || '/' || key, phase || case when target_id is null then ' names no target'
       else ' names a target' end, case when target_id is null then 'a target' else 'none' end, coalesce(target_id::text, 'none')
  from ledger_transactions
 where (phase in ('post', 'void', 'expire', 'reversal')) <> (target_id is not null)
"""

# Part by part: the accounts of the target (exchanged, for a reversal), and its amount; a post of one part may take less.
_MIRRORS = """
select r.tenant_id || '/' || r.mode || '/' || r.key as subject, 'part ' || r.part || ' of a ' || r.phase as detail,
       case when t.id is null then 'a part of ' || r.target_id
            else case when r.phase = 'post' then 'at most ' else '' end || t.amount_minor || ' ' || t.currency || ' on account '
                 || t.debit_id || ' from ' || t.credit_id end as expected,
       r.amount_minor || ' ' || r.currency || ' on account ' || r.debit_id || ' from ' || r.credit_id as actual
  from ledger_transfers r
  left join ledger_transfers t on t.tenant_id = r.tenant_id and t.mode = r.mode and t.id = r.target_id and t.part = r.part
 where r.target_id is not null
   and (t.id is null or r.currency <> t.currency
        or case when r.phase = 'reversal' then (r.debit_id, r.credit_id) <> (t.credit_id, t.debit_id)
                else (r.debit_id, r.credit_id) <> (t.debit_id, t.credit_id) end
        or case when r.phase = 'post' then r.amount_minor > t.amount_minor else r.amount_minor <> t.amount_minor end)
union all
select r.tenant_id || '/' || r.mode || '/' || r.key, 'parts of a ' || r.phase, count(t.part)::text || ' parts, as its target',
       r.parts || ' parts'
  from (select tenant_id, mode, key, phase, target_id, count(*) as parts
          from ledger_transfers where target_id is not null group by 1, 2, 3, 4, 5) r
  join ledger_transfers t on t.tenant_id = r.tenant_id and t.mode = r.mode and t.id = r.target_id
 group by r.tenant_id, r.mode, r.key, r.phase, r.parts having count(t.part) <> r.parts
"""

_GUARDS = """
select g.relation || '.' || g.trigger as subject, 'trigger that refuses change' as detail, 'enabled' as expected,
       coalesce('tgenabled = ' || t.tgenabled::text, 'missing') as actual
  from (values ('ledger_accounts', 'ledger_accounts_no_change'), ('ledger_accounts', 'ledger_accounts_no_truncate'),
               ('ledger_transfers', 'ledger_transfers_no_change'), ('ledger_transfers', 'ledger_transfers_no_truncate'),
               ('ledger_balances', 'ledger_balances_no_delete'),
               ('ledger_balances', 'ledger_balances_no_truncate'), ('audit_log', 'audit_log_no_change'),
               ('audit_log', 'audit_log_no_truncate'), ('chain_links', 'chain_links_no_change'),
               ('chain_links', 'chain_links_no_truncate')) as g(relation, trigger)
  left join pg_trigger t on t.tgrelid = to_regclass(g.relation) and t.tgname = g.trigger
 where t.tgenabled is distinct from 'O' and t.tgenabled is distinct from 'A'
union all
select p.relation || ' ' || p.privilege, 'privilege of chama_app', 'none', 'granted'
  from (select relation, privilege
          from unnest(array['ledger_accounts', 'ledger_balances', 'ledger_transfers', 'chain_links']) as relation,
               unnest(array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) as privilege) p
 where has_table_privilege('chama_app', p.relation, p.privilege)
union all
select c.relname, 'row-level security', 'enabled and forced', c.relrowsecurity || ', ' || c.relforcerowsecurity
  from pg_class c
 where c.oid = any (array['ledger_accounts', 'ledger_balances', 'ledger_transfers', 'chain_links']::regclass[])
   and not (c.relrowsecurity and c.relforcerowsecurity)
union all
select 'ledger_transfers.ledger_transfers_moves_money', 'check that every row moves money', 'enforced', 'missing'
 where not exists (select from pg_constraint where conrelid = 'ledger_transfers'::regclass
                      and conname = 'ledger_transfers_moves_money' and contype = 'c' and conenforced and convalidated)
union all
select 'ledger_transfers.' || g.name, 'unique index', 'in place', 'missing'
  from unnest(array['ledger_transfers_pkey', 'ledger_transfers_target']) as g(name)
 where not exists (select from pg_index i where i.indexrelid = to_regclass(g.name) and i.indisunique and i.indisvalid)
"""

_CHECKS: Final = (
    ("A1", _CROOKED),
    ("A1", _PARTS),
    ("A3", _BALANCES),
    ("A3", _RULES),
    ("A4", _FLOORS),
    ("A5", _RESOLUTIONS),
    ("A5", _MIRRORS),
    ("A6", _GUARDS),
)


async def audit_books(tx: Tx) -> list[Finding]:
    """Every broken invariant, at most LIMIT a check. `tx`: a transaction of the audit role, without a scope.

    One repeatable snapshot for all checks, so that money posted meanwhile is no finding: the first statement of `tx`
    must be ours.
    """
    await tx.execute("set transaction isolation level repeatable read, read only")
    findings = []
    for invariant, check in _CHECKS:
        rows = await (await tx.execute(f"{check} limit {LIMIT}")).fetchall()
        findings += [Finding(invariant, **row) for row in rows]
    return findings
