-- The journal as transfers: one row moves one amount from a credit account to a debit account.
--
-- A row is balanced by its shape, so nothing has to sum legs. A posting of more than two legs is several rows, its parts,
-- under one id and one key. A resolution (post, void, expire) has a row for each row of its hold, a reversal one for each
-- row of its target with the accounts exchanged; what a void or an expire names is not moved but released.
--
-- Nothing here references a row that many writers share by a foreign key (see ledger.sql). Two functions write: one
-- new transfer in plain statements, and any number of postings of any phase as sets. What both must keep is kept by what
-- they share: the constraints of the table, ledger_lowers, ledger_check_floor, and one order of locks (accounts that are
-- opened, keys, balances by account and stripe).

create table ledger_transfers (
    tenant_id uuid not null,
    mode text not null,
    id bigint generated always as identity,
    part integer not null default 1,
    key text collate "C" not null,
    event text not null,
    phase ledger_phase not null,
    target_id bigint,
    payload_hash uuid not null,
    debit_id bigint not null,
    credit_id bigint not null,
    currency text not null,
    amount_minor bigint not null,
    effective_at timestamptz not null,
    expires_at timestamptz,
    posted_at timestamptz not null default now(),
    -- A1, whoever inserts. One constraint: each is parsed again for every statement that inserts.
    constraint ledger_transfers_moves_money check (amount_minor > 0 and debit_id <> credit_id)
);

lock table ledger_transactions, ledger_entries in access exclusive mode;

-- What is there, paired up as `pair_up` of domain/transfers.py does: the debits of a posting laid end to end, and beside them
-- its credits, in their order; where a debit and a credit overlap, that much moves between their accounts.
with legs as (
    select e.transaction_id, e.leg, e.account_id, e.currency, e.amount_minor > 0 as debit, abs(e.amount_minor) as minor,
           sum(abs(e.amount_minor)) over (partition by e.transaction_id, e.currency, e.amount_minor > 0 order by e.leg) as upto
      from ledger_entries e
), pairs as (
    select d.transaction_id, d.account_id as debit_id, c.account_id as credit_id, d.currency,
           least(d.upto, c.upto) - greatest(d.upto - d.minor, c.upto - c.minor) as minor,
           row_number() over (partition by d.transaction_id order by d.currency, least(d.upto, c.upto)) as part
      from legs d
      join legs c on c.transaction_id = d.transaction_id and c.currency = d.currency and not c.debit
       and least(d.upto, c.upto) > greatest(d.upto - d.minor, c.upto - c.minor)
     where d.debit
)
insert into ledger_transfers
       (tenant_id, mode, id, part, key, event, phase, target_id, payload_hash, debit_id, credit_id, currency, amount_minor,
        effective_at, expires_at, posted_at) overriding system value
select t.tenant_id, t.mode, t.id, p.part, t.key, t.event, t.phase, t.target_id, t.payload_hash, p.debit_id, p.credit_id,
       p.currency, p.minor, t.effective_at, t.expires_at, t.posted_at
  from ledger_transactions t
  join pairs p on p.transaction_id = case when t.phase in ('void', 'expire') then t.target_id else t.id end
 order by t.id, p.part;

do $$
begin
    if (select count(*) from ledger_transactions) <> (select count(*) from ledger_transfers where part = 1)
       or (select sum(abs(amount_minor)) from ledger_entries)
          is distinct from (select sum(2 * amount_minor) from ledger_transfers where phase not in ('void', 'expire')) then
        raise exception 'the transfers would not move what the entries moved';
    end if;
    perform setval('ledger_transfers_id_seq', (select coalesce(max(id), 0) + 1 from ledger_transfers), false);
end $$;

drop function ledger_post, ledger_book_two, ledger_move_one, ledger_move, ledger_replay, ledger_check_targets;
drop table ledger_entries, ledger_transactions;
drop function ledger_refuse_unbalanced;

-- The key first: it tells two rows apart at the first comparison, where tenant and mode are alike in most.
alter table ledger_transfers add primary key (key, tenant_id, mode, part), add unique (id, part);
create index ledger_transfers_debit on ledger_transfers (debit_id, id);
create index ledger_transfers_credit on ledger_transfers (credit_id, id);
-- A hold is resolved once, whichever of post, void and expire comes first; a transaction is reversed once.
create unique index ledger_transfers_target
    on ledger_transfers (target_id, part, (phase = 'reversal')) where target_id is not null;

-- The journal as it is usually read: what a posting is, and the two legs of each transfer (positive = debit).
create view ledger_transactions with (security_invoker = true) as
select tenant_id, mode, id, key, event, phase, target_id, payload_hash, effective_at, expires_at, posted_at
  from ledger_transfers where part = 1;

-- Not as a union of both sides: under row-level security the planner does not look inside one, and a join by transaction would
-- read the whole journal. Who wants one account's entries asks the table, by debit_id or credit_id.
create view ledger_entries with (security_invoker = true) as
select t.tenant_id, t.mode, t.id as transaction_id, l.leg, l.account_id, t.currency, l.amount_minor,
       t.phase = 'pending' as pending
  from ledger_transfers t
 cross join lateral (
       values (2 * t.part - 1, t.debit_id, t.amount_minor), (2 * t.part, t.credit_id, -t.amount_minor))
       as l(leg, account_id, amount_minor)
 where t.phase not in ('void', 'expire');
