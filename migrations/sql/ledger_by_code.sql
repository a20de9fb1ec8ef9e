-- One posting that lowers nothing, without a look-up; and one order of locks for all writers, that of the accounts' codes.
--
-- Most postings are final and lower no bounded account: money comes in, a fee is booked. Such a one needs of its accounts only
-- that they are there and may be moved so. Their balances are found by code, moved, and say which accounts they are; the
-- transfer is written last. A look-up of an account costs as much as moving its balance, so this is a tenth of a posting.
--
-- Who moves first and then finds the key taken moves back. Both happen under the locks of these two rows, so that nobody sees it.
-- Every writer locks balances in the order of code and stripe: the caller knows the codes, and the numbers only after a look-up.

-- Both, in the order of those who write: who waits at the first has not yet looked for a function's text, and takes the new ones.
lock table ledger_accounts, ledger_balances in access exclusive mode;

alter table ledger_balances
    add column code text collate "C",
    -- Whether a debit (a credit) can break no bound: the account is unbounded, or is raised by it.
    add column debits_freely boolean,
    add column credits_freely boolean;
update ledger_balances b
   set code = a.code, debits_freely = not a.bounded or b.debit_normal, credits_freely = not a.bounded or not b.debit_normal
  from ledger_accounts a where a.id = b.account_id;
alter table ledger_balances
    alter code set not null, alter debits_freely set not null, alter credits_freely set not null,
    -- The code first, as in the key of a transfer: it tells two rows apart at the first comparison.
    add unique (code, stripe, tenant_id, mode);

-- Opens the accounts that are missing, with all their stripes. In code order, so that two openers cannot deadlock.
create or replace function ledger_open(
    p_tenant uuid, p_mode text, p_codes text[], p_kinds text[], p_bounded boolean[], p_stripes smallint[]
) returns void language sql as $$
    with opened as (
        insert into ledger_accounts (tenant_id, mode, code, currency, kind, bounded, stripes)
        select p_tenant, p_mode, s.code, right(s.code, 3), s.kind, s.bounded, s.stripes
          from unnest(p_codes, p_kinds, p_bounded, p_stripes) as s(code, kind, bounded, stripes)
         where not exists (
               select from ledger_accounts a where a.tenant_id = p_tenant and a.mode = p_mode and a.code = s.code)
         order by s.code
            on conflict do nothing
        returning id, code, bounded, stripes, kind in ('asset', 'expense') as debit_normal
    )
    insert into ledger_balances
           (tenant_id, mode, account_id, code, stripe, stripes, bounded, debit_normal, debits_freely, credits_freely)
    select p_tenant, p_mode, o.id, o.code, n, o.stripes, o.bounded, o.debit_normal, not o.bounded or o.debit_normal,
           not o.bounded or not o.debit_normal
      from opened o, generate_series(0, o.stripes - 1) n
$$;

-- One new final transfer between accounts that are open, where it lowers none that is bounded. The stripes are the caller's
-- knowledge of how many rows a balance has: a number too high finds nothing, one too low uses fewer. Answers null, with
-- nothing moved, where that is not so, the key is taken, the accounts' currencies differ or no tenant is set:
-- `ledger_post` has the answer.
create function ledger_add(
    p_key text, p_event text, p_hash uuid, p_effective timestamptz,
    p_debit text, p_debit_stripes smallint, p_credit text, p_credit_stripes smallint, p_minor bigint
) returns bigint language plpgsql security definer set search_path = public, pg_temp
    set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare
    v_tenant constant uuid := nullif(current_setting('app.tenant', true), '')::uuid;
    v_mode constant text := nullif(current_setting('app.mode', true), '');
    d_id bigint;
    c_id bigint;
    v_id bigint;
begin
    if p_debit collate "C" < p_credit then
        update ledger_balances b set posted_minor = b.posted_minor + p_minor
         where b.code = p_debit and b.stripe = pg_backend_pid() % p_debit_stripes
           and b.tenant_id = v_tenant and b.mode = v_mode and b.debits_freely
        returning b.account_id into d_id;
        update ledger_balances b set posted_minor = b.posted_minor - p_minor
         where b.code = p_credit and b.stripe = pg_backend_pid() % p_credit_stripes
           and b.tenant_id = v_tenant and b.mode = v_mode and b.credits_freely
        returning b.account_id into c_id;
    else
        update ledger_balances b set posted_minor = b.posted_minor - p_minor
         where b.code = p_credit and b.stripe = pg_backend_pid() % p_credit_stripes
           and b.tenant_id = v_tenant and b.mode = v_mode and b.credits_freely
        returning b.account_id into c_id;
        update ledger_balances b set posted_minor = b.posted_minor + p_minor
         where b.code = p_debit and b.stripe = pg_backend_pid() % p_debit_stripes
           and b.tenant_id = v_tenant and b.mode = v_mode and b.debits_freely
        returning b.account_id into d_id;
    end if;
    insert into ledger_transfers
           (tenant_id, mode, key, event, phase, payload_hash, debit_id, credit_id, currency, amount_minor, effective_at)
    select v_tenant, v_mode, p_key, p_event, 'single', p_hash, d_id, c_id, right(p_debit, 3), p_minor, p_effective
     where d_id is not null and c_id is not null and right(p_debit, 3) = right(p_credit, 3)
        on conflict (key, tenant_id, mode, part) do nothing
    returning id into v_id;
    if v_id is null then
        update ledger_balances b set posted_minor = b.posted_minor - p_minor
         where b.account_id = d_id and b.stripe = pg_backend_pid() % p_debit_stripes;
        update ledger_balances b set posted_minor = b.posted_minor + p_minor
         where b.account_id = c_id and b.stripe = pg_backend_pid() % p_credit_stripes;
    end if;
    return v_id;
end $$;
revoke execute on function ledger_add from public;
grant execute on function ledger_add to chama_app;

-- ledger_post_one (of ledger_post_one.sql), for what ledger_add is not: one new transfer that is held, or lowers a bounded
-- account.
create or replace function ledger_post_one(
    p_key text, p_event text, p_phase ledger_phase, p_hash uuid, p_effective timestamptz, p_expires timestamptz,
    p_debit text, p_credit text, p_minor bigint
) returns bigint language plpgsql security definer set search_path = public, pg_temp
    set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare
    v_tenant constant uuid := nullif(current_setting('app.tenant', true), '')::uuid;
    v_mode constant text := nullif(current_setting('app.mode', true), '');
    d_id bigint;
    d_stripes smallint;
    d_bounded boolean;
    d_debit_normal boolean;
    d_currency text;
    c_id bigint;
    c_stripes smallint;
    c_bounded boolean;
    c_debit_normal boolean;
    c_currency text;
    v_id bigint;
    done boolean;
begin
    select a.id, a.stripes, a.bounded, a.kind in ('asset', 'expense'), a.currency
      into d_id, d_stripes, d_bounded, d_debit_normal, d_currency
      from ledger_accounts a where a.tenant_id = v_tenant and a.mode = v_mode and a.code = p_debit;
    select a.id, a.stripes, a.bounded, a.kind in ('asset', 'expense'), a.currency
      into c_id, c_stripes, c_bounded, c_debit_normal, c_currency
      from ledger_accounts a where a.tenant_id = v_tenant and a.mode = v_mode and a.code = p_credit;
    -- Null, and so neither, where there is no scope or an account is not open.
    if d_currency = c_currency and p_phase in ('single', 'pending') then
        insert into ledger_transfers
               (tenant_id, mode, key, event, phase, payload_hash, debit_id, credit_id, currency, amount_minor,
                effective_at, expires_at)
        values (v_tenant, v_mode, p_key, p_event, p_phase, p_hash, d_id, c_id, d_currency, p_minor, p_effective, p_expires)
            on conflict (key, tenant_id, mode, part) do nothing
        returning id into v_id;
    elsif d_currency <> c_currency then
        raise exception 'from % nothing can move to %', p_credit, p_debit using errcode = 'CH004';
    end if;
    if v_id is null then
        return null;
    end if;
    -- Assignments, not PERFORM: a call alone in an expression needs no query of its own.
    if p_debit collate "C" < p_credit then
        done := ledger_move_one(d_id, d_stripes, d_bounded, d_debit_normal, p_minor, p_phase = 'pending');
        done := ledger_move_one(c_id, c_stripes, c_bounded, c_debit_normal, -p_minor, p_phase = 'pending');
    else
        done := ledger_move_one(c_id, c_stripes, c_bounded, c_debit_normal, -p_minor, p_phase = 'pending');
        done := ledger_move_one(d_id, d_stripes, d_bounded, d_debit_normal, p_minor, p_phase = 'pending');
    end if;
    return v_id;
end $$;

-- ledger_move (of ledger_move.sql), in the order of codes. An update locks each row as it comes to it: in the order of the arrays,
-- where it looks each of their elements up, or of the index it looks them up in. It may not join in another way.
create or replace function ledger_move(
    p_accounts bigint[], p_posted bigint[], p_debit bigint[], p_credit bigint[]
) returns void language plpgsql set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_tenant constant uuid := nullif(current_setting('app.tenant', true), '')::uuid;
    v_mode constant text := nullif(current_setting('app.mode', true), '');
    v_ids bigint[];
    v_codes text[];
    v_stripes smallint[];
    v_risky boolean[];
    v_wide boolean; -- whether an account's stripes must be held together
    v_posted bigint[];
    v_debit bigint[];
    v_credit bigint[];
    v_tids tid[];
    v_moved bigint;
begin
    select array_agg(d.id), array_agg(d.code), array_agg(d.stripes), array_agg(d.risky), bool_or(d.risky and d.stripes > 1),
           array_agg(d.posted), array_agg(d.debit), array_agg(d.credit)
      into v_ids, v_codes, v_stripes, v_risky, v_wide, v_posted, v_debit, v_credit
      from (select s.*, a.code, a.stripes, ledger_lowers(a.bounded, a.kind in ('asset', 'expense'), s.posted, s.debit, s.credit) as risky
              from (select l.id, sum(l.posted)::bigint as posted, sum(l.debit)::bigint as debit, sum(l.credit)::bigint as credit
                      from unnest(p_accounts, p_posted, p_debit, p_credit) as l(id, posted, debit, credit)
                     group by l.id) s
             cross join lateral (
                   select x.stripes, x.bounded, x.kind, x.code from ledger_accounts x where x.id = s.id offset 0) a
             order by a.code) d;
    if v_wide then
        select array_agg(l.tid) filter (where l.stripe = pg_backend_pid() % l.stripes) into v_tids
          from (select b.ctid as tid, b.stripe, b.stripes
                  from unnest(v_ids, v_stripes, v_risky) as d(id, stripes, risky)
                  join ledger_balances b on b.account_id = d.id
                   and b.stripe >= case when d.risky then 0 else pg_backend_pid() % d.stripes end
                   and b.stripe <= case when d.risky then d.stripes else pg_backend_pid() % d.stripes end
                 order by b.code, b.stripe for update of b) l;
        update ledger_balances b
           set posted_minor = b.posted_minor + d.posted,
               pending_debit_minor = b.pending_debit_minor + d.debit,
               pending_credit_minor = b.pending_credit_minor + d.credit
          from unnest(v_tids, v_ids, v_posted, v_debit, v_credit) as d(tid, id, posted, debit, credit)
         where b.ctid = d.tid and b.account_id = d.id;
    else
        update ledger_balances b
           set posted_minor = b.posted_minor + d.posted,
               pending_debit_minor = b.pending_debit_minor + d.debit,
               pending_credit_minor = b.pending_credit_minor + d.credit
          from unnest(v_codes, v_stripes, v_posted, v_debit, v_credit) as d(code, stripes, posted, debit, credit)
         where b.code = d.code and b.stripe = pg_backend_pid() % d.stripes and b.tenant_id = v_tenant and b.mode = v_mode;
    end if;
    get diagnostics v_moved = row_count;
    if v_moved <> cardinality(v_ids) then
        raise exception '% of % accounts have a balance', v_moved, cardinality(v_ids);
    end if;
    if true = any (v_risky) then
        perform ledger_check_floor(array(select d.id from unnest(v_ids, v_risky) as d(id, risky) where d.risky));
    end if;
end $$;
