-- A batch of new money, as ledger_add does one posting: balances are found by their accounts' codes, moved, and say which accounts they
-- are; the transfers are written last. It looks nothing up, where ledger_post reads each account twice besides its balance.

-- New transfers in one currency, all final or all held, all or none, as parallel arrays as `ledger_post` takes them; the element of
-- `p_codes` at a position is an account, each of which is in some transfer. Answers the transactions' ids, or null, with nothing moved,
-- where that cannot be: a key is taken, an account is not open, has not enough, or has several stripes and a bound that this
-- could break. `ledger_post` has the answer then.
--
-- An update locks each row as it comes to it: in the order of codes, which it looks up one by one, for it may not join in another way.
create function ledger_post_new(
    p_keys text[], p_parts integer[], p_events text[], p_phase ledger_phase, p_hashes uuid[],
    p_effective timestamptz[], p_expires timestamptz[], p_debits integer[], p_credits integer[], p_amounts bigint[],
    p_codes text[], p_stripes smallint[], p_currency text
) returns bigint[] language plpgsql security definer set search_path = public, pg_temp
    set plan_cache_mode = force_generic_plan set enable_seqscan = off
    set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_tenant constant uuid := nullif(current_setting('app.tenant', true), '')::uuid;
    v_mode constant text := nullif(current_setting('app.mode', true), '');
    v_ids bigint[];
    v_debit bigint[];
    v_credit bigint[];
    v_accounts bigint[];
begin
    if p_phase not in ('single', 'pending') then
        return null;
    end if;
    -- By how much each account is debited and credited, in the order of their positions.
    select array_agg(s.debit), array_agg(s.credit) into v_debit, v_credit
      from (select l.position, sum(l.debit)::bigint as debit, sum(l.credit)::bigint as credit
              from unnest(p_debits, p_credits, p_amounts) as i(debit, credit, amount)
             cross join lateral (values (i.debit, i.amount, 0), (i.credit, 0, i.amount)) as l(position, debit, credit)
             group by l.position order by l.position) s;
    if cardinality(v_debit) is distinct from cardinality(p_codes) then
        return null;
    end if;
    begin
        with moved as (
            update ledger_balances b
               set posted_minor = b.posted_minor + d.posted,
                   pending_debit_minor = b.pending_debit_minor + d.debit,
                   pending_credit_minor = b.pending_credit_minor + d.credit
              from (select c.code, c.stripes, c.position,
                           case when p_phase = 'single' then c.debit - c.credit else 0 end as posted,
                           case when p_phase = 'single' then 0 else c.debit end as debit,
                           case when p_phase = 'single' then 0 else c.credit end as credit
                      from unnest(p_codes, p_stripes, v_debit, v_credit) with ordinality
                           as c(code, stripes, debit, credit, position)
                     order by c.code collate "C") d
             where b.code = d.code and b.stripe = pg_backend_pid() % d.stripes and b.tenant_id = v_tenant and b.mode = v_mode
               and right(d.code, 3) = p_currency
               and (not ledger_lowers(b.bounded, b.debit_normal, d.posted, d.debit, d.credit)
                    or b.stripes = 1
                       and case when b.debit_normal then b.posted_minor + d.posted - b.pending_credit_minor - d.credit
                                else -b.posted_minor - d.posted - b.pending_debit_minor - d.debit end >= 0)
            returning d.position, b.account_id
        )
        select array_agg(m.account_id order by m.position) into v_accounts from moved m;
        if cardinality(v_accounts) is distinct from cardinality(p_codes) then
            raise exception 'not all of the accounts can be moved so' using errcode = 'CH011';
        end if;
        v_ids := array(select nextval('ledger_transfers_id_seq') from generate_series(1, cardinality(p_keys)));
        if p_parts is not null then
            v_ids := array(
                select v_ids[i.ord - i.part + 1] from unnest(p_parts) with ordinality as i(part, ord) order by i.ord);
        end if;
        insert into ledger_transfers
               (tenant_id, mode, id, part, key, event, phase, payload_hash, debit_id, credit_id, currency, amount_minor,
                effective_at, expires_at) overriding system value
        select v_tenant, v_mode, i.id, coalesce(i.part, 1), i.key, coalesce(i.event, p_events[1]),
               p_phase, i.hash, v_accounts[i.debit], v_accounts[i.credit], p_currency, i.amount,
               coalesce(i.effective_at, p_effective[1]), i.expires_at
          from unnest(v_ids, p_parts, p_keys, p_events, p_hashes, p_debits, p_credits, p_amounts, p_effective, p_expires)
               as i(id, part, key, event, hash, debit, credit, amount, effective_at, expires_at)
         order by i.key, i.part;
    exception when unique_violation or sqlstate 'CH011' then
        return null;
    end;
    return v_ids;
end $$;
revoke execute on function ledger_post_new from public;
grant execute on function ledger_post_new to chama_app;
