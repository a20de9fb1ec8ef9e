-- The posting path of ledger.sql once more: the same promises, less work.
--
-- One posting of two legs is nearly all there is, and most of its cost was the start of queries over sets of one: it now
-- takes plain statements, each by one index. A batch locks all its balances with one statement and moves them with another.
--
-- Numbers of accounts and transactions are unique over all tenants, so the indexes that begin with them need not repeat
-- tenant and mode. Whoever looks something up by number has the number from a row of its own tenant, and row-level security
-- holds as before.

alter table ledger_accounts drop constraint ledger_accounts_id_tenant_id_mode_key, add unique (id);
alter table ledger_balances drop constraint ledger_balances_pkey, add primary key (account_id, stripe);
alter table ledger_transactions drop constraint ledger_transactions_id_tenant_id_mode_key, add unique (id);
alter table ledger_entries drop constraint ledger_entries_pkey, add primary key (transaction_id, leg);
drop index ledger_entries_account;
create index ledger_entries_account on ledger_entries (account_id, transaction_id);

-- A1, whoever inserts: every statement leaves each transaction it touches at zero per currency. Nearly every statement
-- touches one transaction in one currency, and one sum without groups shows it.
create or replace function ledger_refuse_unbalanced() returns trigger language plpgsql as $$
declare
    bad record;
begin
    if (select min(n.transaction_id) = max(n.transaction_id) and min(n.currency) = max(n.currency) and sum(n.amount_minor) = 0
          from new_entries n) then
        return null;
    end if;
    select n.transaction_id, n.currency, sum(n.amount_minor) as total into bad
      from new_entries n group by n.transaction_id, n.currency having sum(n.amount_minor) <> 0 limit 1;
    if found then
        raise exception 'transaction % is off by % %', bad.transaction_id, bad.total, bad.currency using errcode = 'CH004';
    end if;
    return null;
end $$;

-- Whether moving an account so may break its floor: it is bounded, and what is available falls.
create function ledger_lowers(
    p_bounded boolean, p_debit_normal boolean, p_posted bigint, p_debit bigint, p_credit bigint
) returns boolean language sql immutable as $$
    select p_bounded and case when p_debit_normal then p_posted < p_credit else -p_posted < p_debit end
$$;

-- Refuses when one of the accounts, all of whose stripes the caller has locked, has less than nothing available.
create function ledger_check_floor(p_ids bigint[]) returns void language plpgsql as $$
declare
    d record;
    available bigint;
begin
    for d in
        select b.account_id as id, bool_or(b.debit_normal) as debit_normal, sum(b.posted_minor)::bigint as posted,
               sum(b.pending_debit_minor)::bigint as debit, sum(b.pending_credit_minor)::bigint as credit
          from ledger_balances b where b.account_id = any (p_ids) group by b.account_id
    loop
        available := case when d.debit_normal then d.posted - d.credit else -d.posted - d.debit end;
        if available < 0 then
            raise exception 'account % would have % available',
                (select a.code from ledger_accounts a where a.id = d.id), available using errcode = 'CH001';
        end if;
    end loop;
end $$;

-- Moves one account's cached balance by one new leg. What lowers the available balance of a bounded account locks all its
-- stripes and looks at the sum; everything else touches one stripe, chosen by backend, and waits for nobody.
create function ledger_move_one(
    p_id bigint, p_stripes smallint, p_bounded boolean, p_debit_normal boolean, p_minor bigint, p_pending boolean
) returns boolean language plpgsql as $$
declare
    v_posted constant bigint := case when p_pending then 0 else p_minor end;
    v_debit constant bigint := case when p_pending then greatest(p_minor, 0) else 0 end;
    v_credit constant bigint := case when p_pending then greatest(-p_minor, 0) else 0 end;
    risky constant boolean := ledger_lowers(p_bounded, p_debit_normal, v_posted, v_debit, v_credit);
begin
    if risky and p_stripes > 1 then
        perform from ledger_balances b where b.account_id = p_id order by b.stripe for update;
    end if;
    update ledger_balances b
       set posted_minor = b.posted_minor + v_posted,
           pending_debit_minor = b.pending_debit_minor + v_debit,
           pending_credit_minor = b.pending_credit_minor + v_credit
     where b.account_id = p_id and b.stripe = pg_backend_pid() % p_stripes;
    if not found then
        raise exception 'account % has no balance', p_id;
    end if;
    if risky then
        perform ledger_check_floor(array[p_id]);
    end if;
    return risky;
end $$;

-- Moves the cached balances by the entries of the new transactions, and takes back those of the holds they resolve.
-- Balances are locked in the order of account and stripe: every writer in the same order, so none deadlocks.
create or replace function ledger_move(
    p_tenant uuid, p_mode text, p_new bigint[], p_freed bigint[]
) returns void language plpgsql as $$
declare
    v_ids bigint[];
    v_stripes smallint[];
    v_risky boolean[];
    v_posted bigint[];
    v_debit bigint[];
    v_credit bigint[];
    v_moved bigint;
begin
    select array_agg(s.account_id), array_agg(a.stripes),
           array_agg(ledger_lowers(a.bounded, a.kind in ('asset', 'expense'), s.posted, s.debit, s.credit)),
           array_agg(s.posted), array_agg(s.debit), array_agg(s.credit)
      into v_ids, v_stripes, v_risky, v_posted, v_debit, v_credit
      from (select e.account_id,
                   sum(case when e.pending then 0 else e.amount_minor end)::bigint as posted,
                   sum(case when e.pending then i.sign * greatest(e.amount_minor, 0) else 0 end)::bigint as debit,
                   sum(case when e.pending then i.sign * greatest(-e.amount_minor, 0) else 0 end)::bigint as credit
              from (select n.id, case when n.ord <= cardinality(p_new) then 1 else -1 end as sign
                      from unnest(p_new || p_freed) with ordinality as n(id, ord)) i
             cross join lateral (
                   select * from ledger_entries l
                    where l.tenant_id = p_tenant and l.mode = p_mode and l.transaction_id = i.id offset 0) e
             group by e.account_id) s
     cross join lateral (
           select x.stripes, x.bounded, x.kind from ledger_accounts x
            where x.tenant_id = p_tenant and x.mode = p_mode and x.id = s.account_id offset 0) a;
    perform from unnest(v_ids, v_stripes, v_risky) as d(id, stripes, risky)
       join ledger_balances b on b.account_id = d.id
        and b.stripe >= case when d.risky then 0 else pg_backend_pid() % d.stripes end
        and b.stripe <= case when d.risky then d.stripes else pg_backend_pid() % d.stripes end
      order by b.account_id, b.stripe for update of b;
    update ledger_balances b
       set posted_minor = b.posted_minor + d.posted,
           pending_debit_minor = b.pending_debit_minor + d.debit,
           pending_credit_minor = b.pending_credit_minor + d.credit
      from unnest(v_ids, v_stripes, v_posted, v_debit, v_credit) as d(id, stripes, posted, debit, credit)
     where b.account_id = d.id and b.stripe = pg_backend_pid() % d.stripes;
    get diagnostics v_moved = row_count;
    if v_moved <> cardinality(v_ids) then
        raise exception '% of % accounts have a balance', v_moved, cardinality(v_ids);
    end if;
    if true = any (v_risky) then
        perform ledger_check_floor(array(select d.id from unnest(v_ids, v_risky) as d(id, risky) where d.risky));
    end if;
end $$;

-- The legs and the balances of one new single or pending posting of two legs.
create function ledger_book_two(
    p_tenant uuid, p_mode text, p_id bigint, p_pending boolean,
    p_codes text[], p_kinds text[], p_bounded boolean[], p_stripes smallint[], p_minor bigint[]
) returns boolean language plpgsql as $$
declare
    a_id bigint;
    a_stripes smallint;
    a_bounded boolean;
    a_debit_normal boolean;
    b_id bigint;
    b_stripes smallint;
    b_bounded boolean;
    b_debit_normal boolean;
    v_a constant bigint := p_minor[1];
    v_b constant bigint := p_minor[2];
    moved boolean;
begin
    for attempt in 1..2 loop
        select a.id, a.stripes, a.bounded, a.kind in ('asset', 'expense'),
               b.id, b.stripes, b.bounded, b.kind in ('asset', 'expense')
          into a_id, a_stripes, a_bounded, a_debit_normal, b_id, b_stripes, b_bounded, b_debit_normal
          from ledger_accounts a, ledger_accounts b
         where a.tenant_id = p_tenant and a.mode = p_mode and a.code = p_codes[1]
           and b.tenant_id = p_tenant and b.mode = p_mode and b.code = p_codes[2];
        exit when found;
        perform ledger_open(p_tenant, p_mode, p_codes, p_kinds, p_bounded, p_stripes);
    end loop;
    insert into ledger_entries (tenant_id, mode, transaction_id, leg, account_id, currency, amount_minor, pending)
    values (p_tenant, p_mode, p_id, 1, a_id, right(p_codes[1], 3), v_a, p_pending),
           (p_tenant, p_mode, p_id, 2, b_id, right(p_codes[2], 3), v_b, p_pending);
    -- Assignments, not PERFORM: a call alone in an expression needs no query of its own. The lower account first.
    if a_id < b_id then
        moved := ledger_move_one(a_id, a_stripes, a_bounded, a_debit_normal, v_a, p_pending);
    end if;
    moved := ledger_move_one(b_id, b_stripes, b_bounded, b_debit_normal, v_b, p_pending);
    if a_id >= b_id then
        moved := ledger_move_one(a_id, a_stripes, a_bounded, a_debit_normal, v_a, p_pending);
    end if;
    return moved;
end $$;

create or replace function ledger_post(
    p_keys text[], p_events text[], p_phases ledger_phase[], p_hashes uuid[],
    p_effective timestamptz[], p_expires timestamptz[], p_targets text[], p_amounts bigint[], p_amount_currencies text[],
    p_codes text[], p_kinds text[], p_bounded boolean[], p_stripes smallint[],
    p_leg_posting integer[], p_leg_account integer[], p_leg_minor bigint[],
    out ids bigint[], out replayed boolean[]
) language plpgsql security definer set search_path = public, pg_temp
    set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare
    v_tenant constant uuid := nullif(current_setting('app.tenant', true), '')::uuid;
    v_mode constant text := nullif(current_setting('app.mode', true), '');
    v_new bigint[] := '{}';
    v_targets bigint[] := '{}';
    v_id bigint;
    v_target bigint;
    v_accounts bigint[];
    v_freed bigint[] := '{}';
    v_done boolean;
begin
    if v_tenant is null or v_mode is null then
        raise exception 'a posting needs a tenant and a mode' using errcode = 'CH000';
    end if;

    -- 1. The journal rows. A taken key or an already resolved target inserts nothing; a competitor in flight is waited for.
    -- One posting is the common case, and plain statements cost half as much as sets of one.
    if cardinality(p_keys) = 1 then
        if p_targets[1] is not null then
            select t.id into v_target from ledger_transactions t
             where t.tenant_id = v_tenant and t.mode = v_mode and t.key = p_targets[1];
        end if;
        if v_target is not null or p_phases[1] in ('single', 'pending') then
            insert into ledger_transactions
                   (tenant_id, mode, key, event, phase, target_id, payload_hash, effective_at, expires_at)
            values (v_tenant, v_mode, p_keys[1], p_events[1], p_phases[1], v_target, p_hashes[1],
                    p_effective[1], p_expires[1])
                on conflict do nothing
            returning id into v_id;
        end if;
        v_new := array[v_id];
        v_targets := array[v_target];
        replayed := array[v_id is null];
        if v_id is not null and v_target is null
           and p_leg_posting = '{1,1}' and p_leg_account = '{1,2}' and cardinality(p_codes) = 2 then
            ids := v_new;
            v_done := ledger_book_two(
                v_tenant, v_mode, v_id, p_phases[1] = 'pending', p_codes, p_kinds, p_bounded, p_stripes, p_leg_minor);
            return;
        end if;
    else
        with input as materialized (
            select nextval('ledger_transactions_id_seq') as id, s.*
              from (select * from unnest(p_keys, p_events, p_phases, p_hashes, p_effective, p_expires, p_targets)
                           with ordinality as i(key, event, phase, hash, effective_at, expires_at, target, ord)
                     order by i.key) s
        ), inserted as (
            insert into ledger_transactions
                   (tenant_id, mode, id, key, event, phase, target_id, payload_hash, effective_at, expires_at)
                   overriding system value
            select v_tenant, v_mode, i.id, i.key, i.event, i.phase, t.id, i.hash, i.effective_at, i.expires_at
              from input i
              left join lateral (
                   select x.id from ledger_transactions x
                    where x.tenant_id = v_tenant and x.mode = v_mode and x.key = i.target offset 0) t on true
             where t.id is not null or i.phase in ('single', 'pending')
                on conflict do nothing
            returning id, target_id
        )
        select array_agg(n.id order by i.ord), array_agg(n.target_id order by i.ord), array_agg(n.id is null order by i.ord)
          into v_new, v_targets, replayed
          from input i left join inserted n on n.id = i.id;
        -- Were all inserted, then no key stood twice.
        if true = any (replayed) and (select count(distinct k) from unnest(p_keys) as k) < cardinality(p_keys) then
            raise exception 'a key stands twice in one batch' using errcode = 'CH002';
        end if;
    end if;
    ids := v_new;
    if true = any(replayed) then
        ids := ledger_replay(v_tenant, v_mode, p_keys, p_phases, p_targets, p_hashes, ids);
        if not false = any(replayed) then
            return;
        end if;
    end if;

    -- 2. The accounts, and the legs of new single and pending postings.
    if cardinality(p_leg_posting) > 0 then
        for attempt in 1..2 loop
            v_accounts := array(
                select (select a.id from ledger_accounts a where a.tenant_id = v_tenant and a.mode = v_mode and a.code = c)
                  from unnest(p_codes) as c);
            exit when array_position(v_accounts, null) is null;
            perform ledger_open(v_tenant, v_mode, p_codes, p_kinds, p_bounded, p_stripes);
        end loop;
        insert into ledger_entries (tenant_id, mode, transaction_id, leg, account_id, currency, amount_minor, pending)
        select v_tenant, v_mode, n.id, l.leg, a.id, right(a.code, 3), l.minor, n.phase = 'pending'
          from unnest(p_leg_posting, p_leg_account, p_leg_minor) with ordinality as l(posting, account, minor, leg)
          join unnest(v_new, p_phases) with ordinality as n(id, phase, ord) on n.ord = l.posting
          join unnest(v_accounts, p_codes) with ordinality as a(id, code, ord) on a.ord = l.account
         where n.id is not null;
    end if;

    -- 3. The legs of new resolutions and reversals, which come from their targets; a resolution frees what was held.
    if p_phases && '{post,void,expire,reversal}' then
        perform ledger_check_targets(
            v_tenant, v_mode, v_new, p_phases, p_effective, p_targets, p_amounts, p_amount_currencies);
        insert into ledger_entries (tenant_id, mode, transaction_id, leg, account_id, currency, amount_minor, pending)
        select v_tenant, v_mode, i.id, e.leg, e.account_id, e.currency,
               case when i.phase = 'reversal' then -e.amount_minor
                    else coalesce(sign(e.amount_minor)::bigint * i.amount, e.amount_minor) end, false
          from unnest(v_new, v_targets, p_phases, p_amounts) as i(id, target_id, phase, amount)
         cross join lateral (
               select * from ledger_entries l
                where l.tenant_id = v_tenant and l.mode = v_mode and l.transaction_id = i.target_id offset 0) e
         where i.id is not null and i.phase in ('post', 'reversal');
        select coalesce(array_agg(i.target_id), '{}') into v_freed
          from unnest(v_new, v_targets, p_phases) as i(id, target_id, phase)
         where i.id is not null and i.phase in ('post', 'void', 'expire');
    end if;

    -- 4. The balances, and the bounds.
    perform ledger_move(v_tenant, v_mode, v_new, v_freed);
end $$;
