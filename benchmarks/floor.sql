-- The bare ledger: one double-entry posting as one function call that locks in id order and keeps balances, and the same
-- for a batch. One index more than the keys: without it no ledger lists an account's entries. No tenant, no idempotency
-- key, no currency, no bounds, no holds, no row-level security, no triggers.

create schema bare;

create table bare.accounts (id bigint primary key, balance bigint not null default 0) with (fillfactor = 50);
create table bare.transactions (id bigint generated always as identity primary key, at timestamptz not null default now());
create table bare.entries (
    transaction_id bigint not null,
    leg smallint not null,
    account_id bigint not null,
    amount bigint not null,
    primary key (transaction_id, leg)
);
create index entries_account on bare.entries (account_id, transaction_id);
insert into bare.accounts (id) select generate_series(0, 9999);

create function bare.post(p_debit bigint, p_credit bigint, p_amount bigint) returns bigint language plpgsql as $$
declare
    v_id bigint;
begin
    insert into bare.transactions default values returning id into v_id;
    insert into bare.entries values (v_id, 1, p_debit, p_amount), (v_id, 2, p_credit, -p_amount);
    if p_debit < p_credit then
        update bare.accounts set balance = balance + p_amount where id = p_debit;
        update bare.accounts set balance = balance - p_amount where id = p_credit;
    else
        update bare.accounts set balance = balance - p_amount where id = p_credit;
        update bare.accounts set balance = balance + p_amount where id = p_debit;
    end if;
    return v_id;
end $$;

create function bare.post_many(p_debits bigint[], p_credits bigint[], p_amounts bigint[]) returns void language plpgsql as $$
begin
    with posting as (
        select nextval('bare.transactions_id_seq') as id, debit, credit, amount
          from unnest(p_debits, p_credits, p_amounts) as i(debit, credit, amount)
    ), journal as (
        insert into bare.transactions (id) overriding system value select id from posting
    ), legs as (
        insert into bare.entries
        select id, 1, debit, amount from posting union all select id, 2, credit, -amount from posting
        returning account_id, amount
    ), moved as (
        select account_id, sum(amount)::bigint as amount from legs group by account_id order by account_id
    )
    update bare.accounts a set balance = a.balance + m.amount from moved m where a.id = m.account_id;
end $$;
