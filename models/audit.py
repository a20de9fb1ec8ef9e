"""The books' auditor: every money invariant of the ledger, over all tenants, in set-based SQL. Changes nothing.

Runs as the audit role (`chama audit`), which sees every tenant without a scope; the tests run the same code after every
money test. Each finding names the broken row. An empty list means the books hold.

    A1  every transaction sums to zero per currency, and every leg belongs to a transaction and an account
    A3  each cached balance equals the sum of its entries: replaying the journal gives the balances
    A4  no bounded account is below zero, holds counted
    A5  each hold is resolved at most once, within what it held; a reversal mirrors its target
    A6  entries, audit records and the links of the hash chains cannot change: the triggers stand, and the app role may
        only read the ledger

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


_SUBJECT_OF_TRANSACTION = "x.tenant_id || '/' || x.mode || '/' || coalesce(t.key, 'transaction ' || x.transaction_id)"

_UNBALANCED = f"""
select {_SUBJECT_OF_TRANSACTION} as subject, 'legs do not sum to zero in ' || x.currency as detail,
       '0' as expected, x.total::text as actual
  from (select tenant_id, mode, transaction_id, currency, sum(amount_minor) as total from ledger_entries
         group by 1, 2, 3, 4 having sum(amount_minor) <> 0) x
  left join ledger_transactions t on t.tenant_id = x.tenant_id and t.mode = x.mode and t.id = x.transaction_id
"""  # noqa: S608  constant text

_ORPHANS = f"""
select {_SUBJECT_OF_TRANSACTION} as subject, 'leg ' || x.leg || ' of ' || x.amount_minor || ' ' || x.currency as detail,
       'a transaction and an account in that currency' as expected,
       concat_ws(', ', case when t.id is null then 'no transaction' end,
                 case when a.id is null then 'no account' else a.code end) as actual
  from ledger_entries x
  left join ledger_transactions t on t.tenant_id = x.tenant_id and t.mode = x.mode and t.id = x.transaction_id
  left join ledger_accounts a on a.tenant_id = x.tenant_id and a.mode = x.mode and a.id = x.account_id
 where t.id is null or a.id is null or a.currency <> x.currency
"""  # noqa: S608  constant text

_EMPTY = """
select t.tenant_id || '/' || t.mode || '/' || t.key as subject, 'legs of a ' || t.phase as detail,
       case when t.phase in ('void', 'expire') then 'none' else 'some' end as expected,
       count(e.leg)::text || ' legs, ' || count(e.leg) filter (where e.pending) || ' pending' as actual
  from ledger_transactions t
  left join ledger_entries e on e.tenant_id = t.tenant_id and e.mode = t.mode and e.transaction_id = t.id
 group by t.tenant_id, t.mode, t.key, t.phase
having case when t.phase in ('void', 'expire') then count(e.leg) > 0
            else count(e.leg) = 0 or count(e.leg) filter (where e.pending <> (t.phase = 'pending')) > 0 end
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
select tenant_id || '/' || mode || '/' || key, phase || ' names no target', 'a target', 'none'
  from ledger_transactions
 where phase in ('post', 'void', 'expire', 'reversal') and target_id is null
"""

_MIRRORS = """
select r.tenant_id || '/' || r.mode || '/' || r.key as subject,
       'leg of a ' || r.phase || ' on account ' || s.account_id as detail,
       case when r.phase = 'post' then 'at most ' || coalesce(s.target, 0)
            else (-coalesce(s.target, 0))::text end as expected,
       coalesce(s.own, 0)::text as actual
  from ledger_transactions r
 cross join lateral (
       select coalesce(o.account_id, h.account_id) as account_id, o.amount as own, h.amount as target
         from (select account_id, sum(amount_minor) as amount from ledger_entries e
                where e.tenant_id = r.tenant_id and e.mode = r.mode and e.transaction_id = r.id group by 1) o
         full join (select account_id, sum(amount_minor) as amount from ledger_entries e
                where e.tenant_id = r.tenant_id and e.mode = r.mode and e.transaction_id = r.target_id group by 1) h
           on h.account_id = o.account_id) s
 where r.phase = 'reversal' and coalesce(s.own, 0) <> -coalesce(s.target, 0)
    or r.phase = 'post' and (abs(coalesce(s.own, 0)) > abs(coalesce(s.target, 0)) or sign(s.own) * sign(s.target) < 0)
"""

_GUARDS = """
select g.relation || '.' || g.trigger as subject, 'trigger that refuses change' as detail, 'enabled' as expected,
       coalesce('tgenabled = ' || t.tgenabled::text, 'missing') as actual
  from (values ('ledger_accounts', 'ledger_accounts_no_change'), ('ledger_accounts', 'ledger_accounts_no_truncate'),
               ('ledger_transactions', 'ledger_transactions_no_change'),
               ('ledger_transactions', 'ledger_transactions_no_truncate'),
               ('ledger_entries', 'ledger_entries_no_change'), ('ledger_entries', 'ledger_entries_no_truncate'),
               ('ledger_entries', 'ledger_entries_balanced'), ('ledger_balances', 'ledger_balances_no_delete'),
               ('ledger_balances', 'ledger_balances_no_truncate'), ('audit_log', 'audit_log_no_change'),
               ('audit_log', 'audit_log_no_truncate'), ('chain_links', 'chain_links_no_change'),
               ('chain_links', 'chain_links_no_truncate')) as g(relation, trigger)
  left join pg_trigger t on t.tgrelid = to_regclass(g.relation) and t.tgname = g.trigger
 where t.tgenabled is distinct from 'O' and t.tgenabled is distinct from 'A'
union all
select p.relation || ' ' || p.privilege, 'privilege of chama_app', 'none', 'granted'
  from (select relation, privilege
          from unnest(array['ledger_accounts', 'ledger_balances', 'ledger_transactions', 'ledger_entries',
                         'chain_links']) as relation,
               unnest(array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) as privilege) p
 where has_table_privilege('chama_app', p.relation, p.privilege)
union all
select c.relname, 'row-level security', 'enabled and forced', c.relrowsecurity || ', ' || c.relforcerowsecurity
  from pg_class c
 where c.oid = any (array['ledger_accounts', 'ledger_balances', 'ledger_transactions', 'ledger_entries',
                             'chain_links']::regclass[])
   and not (c.relrowsecurity and c.relforcerowsecurity)
"""

_CHECKS: Final = (
    ("A1", _UNBALANCED),
    ("A1", _ORPHANS),
    ("A1", _EMPTY),
    ("A3", _BALANCES),
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
