-- The ledger: four tables, one function that writes them, and triggers that refuse everybody else.
-- docs/money.md explains the chart and the phases; models/ledger.py is the only caller of ledger_post.
--
-- Legs are signed: positive = debit, negative = credit. Nothing here references a row that many writers share by a
-- foreign key: the key-share locks would queue every writer of a hot account. The function keeps the references right,
-- nobody else can write, and the auditor checks (A1, A3).
--
-- Only the primary keys begin with the tenant; the other indexes begin with their own column. Two indexes beginning alike
-- look equally good while the tables have no statistics, and a plan cached then would read a tenant's whole history.

create type ledger_phase as enum ('single', 'pending', 'post', 'void', 'expire', 'reversal');

create table ledger_accounts (
    tenant_id uuid not null references tenants,
    mode text not null check (mode in ('test', 'live')),
    id bigint generated always as identity,
    code text collate "C" not null check (length(code) between 5 and 260 and right(code, 4) = ':' || currency),
    currency text not null check (currency ~ '^[A-Z]{3}$'),
    kind text not null check (kind in ('asset', 'expense', 'liability', 'revenue', 'suspense')),
    bounded boolean not null,
    stripes smallint not null check (stripes between 1 and 64),
    opened_at timestamptz not null default now(),
    primary key (tenant_id, mode, code),
    unique (id, tenant_id, mode)
);

-- The cached balance, spread over the account's stripes: only the sum over the stripes means anything. The account's
-- rules are repeated here, so that a posting finds all it needs through one index. The space left free in each page keeps
-- updates in place (no index changes).
create table ledger_balances (
    tenant_id uuid not null,
    mode text not null,
    account_id bigint not null,
    stripe smallint not null,
    stripes smallint not null,
    bounded boolean not null,
    debit_normal boolean not null,
    posted_minor bigint not null default 0,
    pending_debit_minor bigint not null default 0,
    pending_credit_minor bigint not null default 0,
    primary key (tenant_id, mode, account_id, stripe)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

create table ledger_transactions (
    tenant_id uuid not null,
    mode text not null,
    id bigint generated always as identity,
    key text collate "C" not null,
    event text not null,
    phase ledger_phase not null,
    target_id bigint,
    payload_hash uuid not null,
    effective_at timestamptz not null,
    expires_at timestamptz,
    posted_at timestamptz not null default now(),
    primary key (tenant_id, mode, key),
    unique (id, tenant_id, mode)
);
-- A hold is resolved once, whichever of post, void and expire comes first; a transaction is reversed once.
create unique index ledger_transactions_target
    on ledger_transactions (target_id, tenant_id, mode, (phase = 'reversal')) where target_id is not null;

create table ledger_entries (
    tenant_id uuid not null,
    mode text not null,
    transaction_id bigint not null,
    leg integer not null, -- its position in the call that wrote it: a batch numbers its legs through
    account_id bigint not null,
    currency text not null,
    amount_minor bigint not null check (amount_minor <> 0),
    pending boolean not null,
    primary key (tenant_id, mode, transaction_id, leg)
);
create index ledger_entries_account on ledger_entries (account_id, tenant_id, mode, transaction_id);

-- A1, whoever inserts: every statement leaves each transaction it touches at zero per currency. Stricter than a check
-- at commit, and one query a statement where a deferred trigger would run one a row.
create function ledger_refuse_unbalanced() returns trigger language plpgsql as $$
declare
    bad record;
begin
    select n.transaction_id, n.currency, sum(n.amount_minor) as total into bad
      from new_entries n group by n.transaction_id, n.currency having sum(n.amount_minor) <> 0 limit 1;
    if found then
        raise exception 'transaction % is off by % %', bad.transaction_id, bad.total, bad.currency using errcode = 'CH004';
    end if;
    return null;
end $$;
create trigger ledger_entries_balanced after insert on ledger_entries
    referencing new table as new_entries for each statement execute function ledger_refuse_unbalanced();

-- Opens the accounts that are missing, with all their stripes. In code order, so that two openers cannot deadlock.
create function ledger_open(
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
        returning id, kind, bounded, stripes
    )
    insert into ledger_balances (tenant_id, mode, account_id, stripe, stripes, bounded, debit_normal)
    select p_tenant, p_mode, o.id, n, o.stripes, o.bounded, o.kind in ('asset', 'expense')
      from opened o, generate_series(0, o.stripes - 1) n
$$;

-- Moves the cached balances by the entries of the new transactions, and takes back those of the holds they resolve.
-- Accounts are locked in id order, their stripes in number order: every writer in the same order, so none deadlocks. What
-- lowers the available balance of a bounded account locks all its stripes and looks at the sum; everything else touches
-- one stripe, chosen by backend, and waits for nobody.
create function ledger_move(p_tenant uuid, p_mode text, p_new bigint[], p_freed bigint[]) returns void language plpgsql as $$
declare
    d record;
    available bigint;
    new_posted bigint;
    new_debit bigint;
    new_credit bigint;
begin
    for d in
        select s.account_id as id, a.stripes, s.posted, s.debit, s.credit, a.debit_normal,
               a.bounded and case when a.debit_normal then s.posted < s.credit else -s.posted < s.debit end as risky
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
               select b.stripes, b.bounded, b.debit_normal from ledger_balances b
                where b.tenant_id = p_tenant and b.mode = p_mode and b.account_id = s.account_id and b.stripe = 0 offset 0) a
         order by s.account_id
    loop
        if d.risky and d.stripes > 1 then
            perform from ledger_balances b
              where b.tenant_id = p_tenant and b.mode = p_mode and b.account_id = d.id order by b.stripe for update;
        end if;
        update ledger_balances b
           set posted_minor = b.posted_minor + d.posted,
               pending_debit_minor = b.pending_debit_minor + d.debit,
               pending_credit_minor = b.pending_credit_minor + d.credit
         where b.tenant_id = p_tenant and b.mode = p_mode and b.account_id = d.id and b.stripe = pg_backend_pid() % d.stripes
        returning b.posted_minor, b.pending_debit_minor, b.pending_credit_minor
             into strict new_posted, new_debit, new_credit;
        if d.risky then
            if d.stripes > 1 then
                select sum(b.posted_minor), sum(b.pending_debit_minor), sum(b.pending_credit_minor)
                  into new_posted, new_debit, new_credit from ledger_balances b
                 where b.tenant_id = p_tenant and b.mode = p_mode and b.account_id = d.id;
            end if;
            available := case when d.debit_normal then new_posted - new_credit else -new_posted - new_debit end;
            if available < 0 then
                raise exception 'account % would have % available',
                    (select a.code from ledger_accounts a where a.tenant_id = p_tenant and a.mode = p_mode and a.id = d.id),
                    available using errcode = 'CH001';
            end if;
        end if;
    end loop;
end $$;

-- For the postings whose row could not be inserted: the same posting again is answered with its first transaction,
-- everything else is refused with its reason.
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
               select * from ledger_transactions n
                where n.tenant_id = p_tenant and n.mode = p_mode and n.key = i.key offset 0) x on true
          left join lateral (
               select * from ledger_transactions n
                where n.tenant_id = p_tenant and n.mode = p_mode and n.key = i.target offset 0) t on true
          left join lateral (
               select * from ledger_transactions n
                where n.tenant_id = p_tenant and n.mode = p_mode and n.target_id = t.id
                  and (n.phase = 'reversal') = (i.phase = 'reversal') offset 0) o on true
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

-- Refuses a resolution or reversal that does not fit its target. `p_ids` are the new transactions.
create function ledger_check_targets(
    p_tenant uuid, p_mode text, p_ids bigint[], p_phases ledger_phase[], p_effective timestamptz[], p_targets text[],
    p_amounts bigint[], p_amount_currencies text[]
) returns void language plpgsql as $$
declare
    r record;
begin
    for r in
        select i.phase, i.effective_at, t.key, t.phase as target_phase, t.expires_at, i.amount, i.currency,
               e.legs, e.held, e.held_currency
          from unnest(p_ids, p_phases, p_effective, p_targets, p_amounts, p_amount_currencies)
               as i(id, phase, effective_at, target, amount, currency)
         cross join lateral (
               select * from ledger_transactions n
                where n.tenant_id = p_tenant and n.mode = p_mode and n.key = i.target offset 0) t
          left join lateral (
               select count(*) as legs, max(l.amount_minor) as held, max(l.currency) as held_currency
                 from ledger_entries l
                where l.tenant_id = p_tenant and l.mode = p_mode and l.transaction_id = t.id offset 0) e
            on i.amount is not null
         where i.id is not null
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
        elsif r.amount <= 0 or r.amount > r.held or r.legs <> 2 and r.amount is not null then
            raise exception 'hold % of % (% legs) cannot be posted for %', r.key, r.held, r.legs, r.amount
                using errcode = 'CH006';
        end if;
    end loop;
end $$;

-- The one posting path: n postings of any phase, all or none. Postings are parallel arrays; legs point to their posting
-- and their account by position. An unknown account is opened. Answers, by position, the transaction's id and whether it
-- was there before. A posting that targets another of the same call does not find it.
--   CH000 no tenant    CH001 insufficient funds  CH002 key conflict   CH003 hold resolved     CH004 unbalanced
--   CH005 unknown hold CH006 exceeds hold        CH007 hold expired   CH008 already reversed  CH009 currency
--   CH010 hold not expired
create function ledger_post(
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
    else
        if (select count(distinct k) from unnest(p_keys) as k) < cardinality(p_keys) then
            raise exception 'a key stands twice in one batch' using errcode = 'CH002';
        end if;
        with inserted as (
            insert into ledger_transactions
                   (tenant_id, mode, key, event, phase, target_id, payload_hash, effective_at, expires_at)
            select v_tenant, v_mode, i.key, i.event, i.phase, t.id, i.hash, i.effective_at, i.expires_at
              from unnest(p_keys, p_events, p_phases, p_hashes, p_effective, p_expires, p_targets)
                   as i(key, event, phase, hash, effective_at, expires_at, target)
              left join lateral (
                   select x.id from ledger_transactions x
                    where x.tenant_id = v_tenant and x.mode = v_mode and x.key = i.target offset 0) t on true
             where t.id is not null or i.phase in ('single', 'pending')
             order by i.key
                on conflict do nothing
            returning id, key, target_id
        )
        select array_agg(n.id order by i.ord), array_agg(n.target_id order by i.ord), array_agg(n.id is null order by i.ord)
          into v_new, v_targets, replayed
          from unnest(p_keys) with ordinality as i(key, ord) left join inserted n on n.key = i.key;
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
        select v_tenant, v_mode, v_new[l.posting], l.leg, v_accounts[l.account], right(p_codes[l.account], 3), l.minor,
               p_phases[l.posting] = 'pending'
          from unnest(p_leg_posting, p_leg_account, p_leg_minor) with ordinality as l(posting, account, minor, leg)
         where v_new[l.posting] is not null;
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
