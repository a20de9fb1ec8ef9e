-- ledger_post_one, with less around its statements (it was made in ledger_transfers_posting.sql).
--
-- PL/pgSQL makes each expression ready anew in each transaction, and each costs about as much as reading a row by its key. So
-- there is one condition where there were four, and the posting that most are, final and lowering no bounded account, moves its
-- two balances by two plain statements.
--
-- Two look-ups, an insert and two updates: joined into one statement, or into two, they were no cheaper.

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
    d_risky boolean;
    c_id bigint;
    c_stripes smallint;
    c_bounded boolean;
    c_debit_normal boolean;
    c_currency text;
    c_risky boolean;
    v_id bigint;
    done boolean;
begin
    select a.id, a.stripes, a.bounded, a.kind in ('asset', 'expense'), a.currency,
           ledger_lowers(a.bounded, a.kind in ('asset', 'expense'), p_minor, 0, 0)
      into d_id, d_stripes, d_bounded, d_debit_normal, d_currency, d_risky
      from ledger_accounts a where a.tenant_id = v_tenant and a.mode = v_mode and a.code = p_debit;
    select a.id, a.stripes, a.bounded, a.kind in ('asset', 'expense'), a.currency,
           ledger_lowers(a.bounded, a.kind in ('asset', 'expense'), -p_minor, 0, 0)
      into c_id, c_stripes, c_bounded, c_debit_normal, c_currency, c_risky
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
    -- The lower account first, as every writer locks them.
    if v_id is null then
        return null;
    elsif d_risky or c_risky or p_phase = 'pending' then
        if d_id < c_id then
            done := ledger_move_one(d_id, d_stripes, d_bounded, d_debit_normal, p_minor, p_phase = 'pending');
        end if;
        done := ledger_move_one(c_id, c_stripes, c_bounded, c_debit_normal, -p_minor, p_phase = 'pending');
        if d_id > c_id then
            done := ledger_move_one(d_id, d_stripes, d_bounded, d_debit_normal, p_minor, p_phase = 'pending');
        end if;
        return v_id;
    elsif d_id < c_id then
        update ledger_balances b set posted_minor = b.posted_minor + p_minor
         where b.account_id = d_id and b.stripe = pg_backend_pid() % d_stripes;
        done := found;
        update ledger_balances b set posted_minor = b.posted_minor - p_minor
         where b.account_id = c_id and b.stripe = pg_backend_pid() % c_stripes;
    else
        update ledger_balances b set posted_minor = b.posted_minor - p_minor
         where b.account_id = c_id and b.stripe = pg_backend_pid() % c_stripes;
        done := found;
        update ledger_balances b set posted_minor = b.posted_minor + p_minor
         where b.account_id = d_id and b.stripe = pg_backend_pid() % d_stripes;
    end if;
    if not (found and done) then
        raise exception 'account % or % has no balance', d_id, c_id;
    end if;
    return v_id;
end $$;
