-- The writers of ledger_transfers (see ledger_transfers.sql), which are all that may write it.

-- One new transfer, of a single or pending posting of two legs between accounts that are open. Answers its id, or null when
-- it is not new or an account is not open, and then nothing was written: ledger_post has the answer.
create function ledger_post_one(
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
    if v_tenant is null or v_mode is null then
        raise exception 'a posting needs a tenant and a mode' using errcode = 'CH000';
    end if;
    if p_phase not in ('single', 'pending') then
        return null;
    end if;
    select a.id, a.stripes, a.bounded, a.kind in ('asset', 'expense'), a.currency
      into d_id, d_stripes, d_bounded, d_debit_normal, d_currency
      from ledger_accounts a where a.tenant_id = v_tenant and a.mode = v_mode and a.code = p_debit;
    select a.id, a.stripes, a.bounded, a.kind in ('asset', 'expense'), a.currency
      into c_id, c_stripes, c_bounded, c_debit_normal, c_currency
      from ledger_accounts a where a.tenant_id = v_tenant and a.mode = v_mode and a.code = p_credit;
    if d_id is null or c_id is null then
        return null;
    end if;
    if d_currency <> c_currency then
        raise exception 'from % nothing can move to %', p_credit, p_debit using errcode = 'CH004';
    end if;
    insert into ledger_transfers
           (tenant_id, mode, key, event, phase, payload_hash, debit_id, credit_id, currency, amount_minor,
            effective_at, expires_at)
    values (v_tenant, v_mode, p_key, p_event, p_phase, p_hash, d_id, c_id, d_currency, p_minor, p_effective, p_expires)
        on conflict (key, tenant_id, mode, part) do nothing
    returning id into v_id;
    if v_id is null then
        return null;
    end if;
    -- Assignments, not PERFORM: a call alone in an expression needs no query of its own. The lower account first.
    if d_id < c_id then
        done := ledger_move_one(d_id, d_stripes, d_bounded, d_debit_normal, p_minor, p_phase = 'pending');
    end if;
    done := ledger_move_one(c_id, c_stripes, c_bounded, c_debit_normal, -p_minor, p_phase = 'pending');
    if d_id > c_id then
        done := ledger_move_one(d_id, d_stripes, d_bounded, d_debit_normal, p_minor, p_phase = 'pending');
    end if;
    return v_id;
end $$;

-- Moves one account's cached balance by one new leg. What lowers the available balance of a bounded account locks all its
-- stripes and looks at the sum; everything else touches one stripe, chosen by backend, and waits for nobody.
create function ledger_move_one(
    p_id bigint, p_stripes smallint, p_bounded boolean, p_debit_normal boolean, p_minor bigint, p_pending boolean
) returns boolean language plpgsql as $$
declare
    v_posted constant bigint := case when p_pending then 0 else p_minor end;
    v_debit constant bigint := case when p_pending and p_minor > 0 then p_minor else 0 end;
    v_credit constant bigint := case when p_pending and p_minor < 0 then -p_minor else 0 end;
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

-- Moves the cached balances by legs, given as parallel arrays: account, and by how much its posted balance, its pending
-- debits and its pending credits grow. Balances are locked in the order of account and stripe: every writer in the same
-- order, so none deadlocks.
create function ledger_move(
    p_accounts bigint[], p_posted bigint[], p_debit bigint[], p_credit bigint[]
) returns void language plpgsql as $$
declare
    v_ids bigint[];
    v_stripes smallint[];
    v_risky boolean[];
    v_posted bigint[];
    v_debit bigint[];
    v_credit bigint[];
    v_tids tid[];
    v_moved bigint;
begin
    select array_agg(s.id), array_agg(a.stripes),
           array_agg(ledger_lowers(a.bounded, a.kind in ('asset', 'expense'), s.posted, s.debit, s.credit)),
           array_agg(s.posted), array_agg(s.debit), array_agg(s.credit)
      into v_ids, v_stripes, v_risky, v_posted, v_debit, v_credit
      from (select l.id, sum(l.posted)::bigint as posted, sum(l.debit)::bigint as debit, sum(l.credit)::bigint as credit
              from unnest(p_accounts, p_posted, p_debit, p_credit) as l(id, posted, debit, credit)
             group by l.id order by l.id) s
     cross join lateral (select x.stripes, x.bounded, x.kind from ledger_accounts x where x.id = s.id offset 0) a;
    select array_agg(l.tid) filter (where l.stripe = pg_backend_pid() % l.stripes) into v_tids
      from (select b.ctid as tid, b.stripe, b.stripes
              from unnest(v_ids, v_stripes, v_risky) as d(id, stripes, risky)
              join ledger_balances b on b.account_id = d.id
               and b.stripe >= case when d.risky then 0 else pg_backend_pid() % d.stripes end
               and b.stripe <= case when d.risky then d.stripes else pg_backend_pid() % d.stripes end
             order by b.account_id, b.stripe for update of b) l;
    update ledger_balances b
       set posted_minor = b.posted_minor + d.posted,
           pending_debit_minor = b.pending_debit_minor + d.debit,
           pending_credit_minor = b.pending_credit_minor + d.credit
      from unnest(v_tids, v_ids, v_posted, v_debit, v_credit) as d(tid, id, posted, debit, credit)
     where b.ctid = d.tid and b.account_id = d.id;
    get diagnostics v_moved = row_count;
    if v_moved <> cardinality(v_ids) then
        raise exception '% of % accounts have a balance', v_moved, cardinality(v_ids);
    end if;
    if true = any (v_risky) then
        perform ledger_check_floor(array(select d.id from unnest(v_ids, v_risky) as d(id, risky) where d.risky));
    end if;
end $$;

-- For the rows that could not be inserted: the same posting again is answered with its first transaction, everything else
-- is refused with its reason.
create function ledger_replay(
    p_tenant uuid, p_mode text, p_keys text[], p_phases ledger_phase[], p_targets text[], p_hashes uuid[], p_ids bigint[]
) returns bigint[] language plpgsql as $$
declare
    r record;
begin
    for r in
        select i.ord, i.key, i.phase, i.target, i.hash, x.id, x.payload_hash, t.id as target_id,
               o.key as other_key, o.phase as other_phase
          from unnest(p_keys, p_phases, p_targets, p_hashes, p_ids) with ordinality as i(key, phase, target, hash, id, ord)
          left join lateral (
               select n.id, n.payload_hash from ledger_transfers n
                where n.tenant_id = p_tenant and n.mode = p_mode and n.key = i.key and n.part = 1 offset 0) x on true
          left join lateral (
               select n.id from ledger_transfers n
                where n.tenant_id = p_tenant and n.mode = p_mode and n.key = i.target and n.part = 1 offset 0) t on true
          left join lateral (
               select n.key, n.phase from ledger_transfers n
                where n.target_id = t.id and n.part = 1 and (n.phase = 'reversal') = (i.phase = 'reversal')
                  and n.tenant_id = p_tenant and n.mode = p_mode offset 0) o on true
         where i.id is null
         order by i.ord
    loop
        if r.payload_hash = r.hash then
            p_ids[r.ord] := r.id;
        elsif r.id is not null then
            raise exception 'key % belongs to another posting', r.key using errcode = 'CH002';
        elsif r.target_id is null then
            raise exception 'there is no transaction %', r.target using errcode = 'CH005';
        elsif r.phase = 'reversal' then
            raise exception '% was reversed by %', r.target, r.other_key using errcode = 'CH008';
        else
            raise exception '% was resolved by % (%)', r.target, r.other_key, r.other_phase using errcode = 'CH003';
        end if;
    end loop;
    return p_ids;
end $$;

-- Refuses a resolution or reversal that does not fit its target. `p_ids` are the elements' ids, `p_new` those just inserted.
create function ledger_check_targets(
    p_tenant uuid, p_mode text, p_new bigint[], p_ids bigint[], p_phases ledger_phase[], p_effective timestamptz[],
    p_targets text[], p_amounts bigint[], p_currencies text[]
) returns void language plpgsql as $$
declare
    r record;
begin
    for r in
        select i.phase, i.effective_at, i.amount, i.currency, h.key, h.phase as target_phase, h.expires_at,
               h.amount_minor as held, h.currency as held_currency, h.last_part > 1 as many
          from unnest(p_ids, p_phases, p_effective, p_targets, p_amounts, p_currencies)
               as i(id, phase, effective_at, target, amount, currency)
          join unnest(p_new) as n(id) on n.id = i.id
         cross join lateral (
               select t.*, max(t.part) over () as last_part from ledger_transfers t
                where t.tenant_id = p_tenant and t.mode = p_mode and t.key = i.target order by t.part limit 1) h
    loop
        if r.phase = 'reversal' and r.target_phase not in ('single', 'post') then
            raise exception '% is a %: it cannot be reversed', r.key, r.target_phase using errcode = 'CH005';
        elsif r.phase <> 'reversal' and r.target_phase <> 'pending' then
            raise exception '% is not a hold', r.key using errcode = 'CH005';
        elsif r.phase = 'expire' and (r.expires_at is null or r.effective_at < r.expires_at) then
            raise exception 'hold % has not expired', r.key using errcode = 'CH010';
        elsif r.phase = 'post' and r.effective_at >= r.expires_at then
            raise exception 'hold % expired at %', r.key, r.expires_at using errcode = 'CH007';
        elsif r.currency <> r.held_currency then
            raise exception 'hold % is in %, not in %', r.key, r.held_currency, r.currency using errcode = 'CH009';
        elsif r.amount > r.held or r.many and r.amount is not null then
            raise exception 'hold % of % cannot be posted for %', r.key, r.held, r.amount using errcode = 'CH006';
        end if;
    end loop;
end $$;

-- Postings of any phase, all or none, as parallel arrays with one element a transfer. A posting of several parts has them
-- one after the other, its header repeated; a resolution or reversal has one element, whatever its target has. Accounts
-- are given by their position in `p_codes`; one that is not open is opened. One event, phase or date may stand for all.
-- Answers, for each element, its transaction's id
-- and whether that was there before. `p_parts` null: all are 1. `p_amounts`: what moves; for a `post` the part of its hold.
--   CH000 no tenant    CH001 insufficient funds  CH002 key conflict   CH003 hold resolved     CH004 two currencies
--   CH005 unknown hold CH006 exceeds hold        CH007 hold expired   CH008 already reversed  CH009 hold's currency
--   CH010 hold not expired
create function ledger_post(
    p_keys text[], p_parts integer[], p_events text[], p_phases ledger_phase[], p_hashes uuid[],
    p_effective timestamptz[], p_expires timestamptz[], p_targets text[],
    p_debits integer[], p_credits integer[], p_amounts bigint[], p_currencies text[],
    p_codes text[], p_kinds text[], p_bounded boolean[], p_stripes smallint[],
    out ids bigint[], out replayed boolean[]
) language plpgsql security definer set search_path = public, pg_temp
    set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare
    v_tenant constant uuid := nullif(current_setting('app.tenant', true), '')::uuid;
    v_mode constant text := nullif(current_setting('app.mode', true), '');
    -- The id of each element's transaction; null once it turns out not to be new.
    v_new bigint[] := array(select nextval('ledger_transfers_id_seq') from generate_series(1, cardinality(p_keys)));
    v_before bigint[];
    v_accounts bigint[];
    v_currency text; -- of all accounts, where they have one
    v_currencies text[];
    v_moved bigint[];
    v_posted bigint[];
    v_debit bigint[];
    v_credit bigint[];
    resolved record;
begin
    if v_tenant is null or v_mode is null then
        raise exception 'a posting needs a tenant and a mode' using errcode = 'CH000';
    end if;
    -- One element stands for as many as there are keys.
    if cardinality(p_keys) > 1 then
        if cardinality(p_events) = 1 then
            p_events := array_fill(p_events[1], array[cardinality(p_keys)]);
        end if;
        if cardinality(p_phases) = 1 then
            p_phases := array_fill(p_phases[1], array[cardinality(p_keys)]);
        end if;
        if cardinality(p_effective) = 1 then
            p_effective := array_fill(p_effective[1], array[cardinality(p_keys)]);
        end if;
    end if;
    if p_parts is not null then
        v_new := array(select v_new[i.ord - i.part + 1] from unnest(p_parts) with ordinality as i(part, ord) order by i.ord);
    end if;

    -- 1. New money: its accounts, then its rows in the order of their keys; a competitor in flight is waited for. Plain rows,
    -- and without those whose key is taken where one is: to be ready for a conflict at each row costs more than to begin
    -- anew for the rare batch that meets one.
    if cardinality(p_codes) > 0 then
        for attempt in 1..2 loop
            select array_agg(a.id order by c.ord), array_agg(a.currency order by c.ord),
                   case when min(a.currency) = max(a.currency) then min(a.currency) end
              into v_accounts, v_currencies, v_currency
              from unnest(p_codes) with ordinality as c(code, ord)
              left join lateral (
                   select x.id, x.currency from ledger_accounts x
                    where x.tenant_id = v_tenant and x.mode = v_mode and x.code = c.code offset 0) a on true;
            exit when array_position(v_accounts, null) is null;
            perform ledger_open(v_tenant, v_mode, p_codes, p_kinds, p_bounded, p_stripes);
        end loop;
        if v_currency is null and exists (
               select from unnest(p_debits, p_credits) as i(debit, credit)
                where v_currencies[i.debit] <> v_currencies[i.credit]) then
            raise exception 'money cannot move between currencies' using errcode = 'CH004';
        end if;
        loop
            begin
                insert into ledger_transfers
                       (tenant_id, mode, id, part, key, event, phase, payload_hash, debit_id, credit_id, currency,
                        amount_minor, effective_at, expires_at) overriding system value
                select v_tenant, v_mode, i.id, coalesce(i.part, 1), i.key, i.event, i.phase, i.hash,
                       v_accounts[i.debit], v_accounts[i.credit], coalesce(v_currency, v_currencies[i.debit]), i.amount,
                       i.effective_at, i.expires_at
                  from unnest(v_new, p_parts, p_keys, p_events, p_phases, p_hashes, p_debits, p_credits, p_amounts,
                              p_effective, p_expires)
                       as i(id, part, key, event, phase, hash, debit, credit, amount, effective_at, expires_at)
                 where i.id is not null and i.phase in ('single', 'pending')
                 order by i.key, i.part;
                exit;
            exception when unique_violation then
                v_before := v_new;
                select array_agg(case when t.id is null then i.id end order by i.ord) into v_new
                  from unnest(v_new, p_keys, p_phases) with ordinality as i(id, key, phase, ord)
                  left join lateral (
                       select x.id from ledger_transfers x
                        where x.tenant_id = v_tenant and x.mode = v_mode and x.key = i.key and x.part = 1
                          and i.phase in ('single', 'pending') offset 0) t on true;
                if v_new = v_before then
                    raise exception 'a key stands twice in one batch' using errcode = 'CH002';
                end if;
            end;
        end loop;
        select array_agg(v_accounts[i.debit]) || array_agg(v_accounts[i.credit]),
               array_agg(i.posted) || array_agg(-i.posted),
               array_agg(i.held) || array_agg(0::bigint), array_agg(0::bigint) || array_agg(i.held)
          into v_moved, v_posted, v_debit, v_credit
          from (select n.debit, n.credit, case when n.phase = 'single' then n.amount else 0 end as posted,
                       case when n.phase = 'single' then 0 else n.amount end as held
                  from unnest(v_new, p_phases, p_debits, p_credits, p_amounts) as n(id, phase, debit, credit, amount)
                 where n.id is not null and n.phase in ('single', 'pending')) i;
    end if;

    -- 2. Resolutions and reversals, whose rows come from their targets'. A taken key, and a target that is resolved, insert
    -- nothing.
    if p_targets is not null then
        with found as (
            select i.*, t.id as target_id, t.part, t.currency, t.amount_minor as held,
                   case when i.phase = 'reversal' then t.credit_id else t.debit_id end as debit_id,
                   case when i.phase = 'reversal' then t.debit_id else t.credit_id end as credit_id
              from unnest(v_new, p_keys, p_events, p_phases, p_hashes, p_effective, p_targets, p_amounts)
                   as i(id, key, event, phase, hash, effective_at, target, amount)
             cross join lateral (
                   select x.id, x.part, x.debit_id, x.credit_id, x.currency, x.amount_minor from ledger_transfers x
                    where x.tenant_id = v_tenant and x.mode = v_mode and x.key = i.target offset 0) t
             where i.phase not in ('single', 'pending')
             order by i.key, t.part
        ), inserted as (
            insert into ledger_transfers
                   (tenant_id, mode, id, part, key, event, phase, target_id, payload_hash, debit_id, credit_id, currency,
                    amount_minor, effective_at) overriding system value
            select v_tenant, v_mode, f.id, f.part, f.key, f.event, f.phase, f.target_id, f.hash, f.debit_id, f.credit_id,
                   f.currency, coalesce(f.amount, f.held), f.effective_at
              from found f
                on conflict do nothing
            returning id, part, amount_minor
        )
        select array_agg(i.id) filter (where i.part = 1) as ids,
               array_agg(i.debit_id) || array_agg(i.credit_id) as accounts,
               array_agg(i.posted) || array_agg(-i.posted) as posted,
               array_agg(-i.freed) || array_agg(0::bigint) as debit, array_agg(0::bigint) || array_agg(-i.freed) as credit
          into resolved
          from (select f.id, f.part, f.debit_id, f.credit_id,
                       case when f.phase in ('post', 'reversal') then n.amount_minor else 0 end as posted,
                       case when f.phase <> 'reversal' then f.held else 0 end as freed
                  from inserted n join found f on f.id = n.id and f.part = n.part) i;
        perform ledger_check_targets(
            v_tenant, v_mode, resolved.ids, v_new, p_phases, p_effective, p_targets, p_amounts, p_currencies);
        select array_agg(case when i.phase in ('single', 'pending') or n.id is not null then i.id end order by i.ord) into v_new
          from unnest(v_new, p_phases) with ordinality as i(id, phase, ord)
          left join unnest(resolved.ids) as n(id) on n.id = i.id;
        v_moved := v_moved || resolved.accounts;
        v_posted := v_posted || resolved.posted;
        v_debit := v_debit || resolved.debit;
        v_credit := v_credit || resolved.credit;
    end if;

    -- 3. What was not inserted was there before, or is refused.
    ids := v_new;
    if array_position(v_new, null) is null then
        replayed := array_fill(false, array[cardinality(v_new)]);
    else
        replayed := array(select i.id is null from unnest(v_new) with ordinality as i(id, ord) order by i.ord);
        ids := ledger_replay(v_tenant, v_mode, p_keys, p_phases, p_targets, p_hashes, v_new);
    end if;

    -- 4. The balances, and the bounds.
    if cardinality(v_moved) > 0 then
        perform ledger_move(v_moved, v_posted, v_debit, v_credit);
    end if;
end $$;
