-- ledger_move (of ledger_transfers_posting.sql), which locks before it moves only where it must.
--
-- A batch that lowers no bounded account of several stripes touches one row an account. An update locks each row as it comes to
-- it: in the order of the arrays, which is that of the accounts, for the planner expects ten of them and looks each up in the
-- balances' index; a merge, or a hash of either side, keeps that order too. Sequential scans are off (ledger_post), which would
-- not. Locking the rows first cost an eighth of a batch's time.

create or replace function ledger_move(
    p_accounts bigint[], p_posted bigint[], p_debit bigint[], p_credit bigint[]
) returns void language plpgsql as $$
declare
    v_ids bigint[];
    v_stripes smallint[];
    v_risky boolean[];
    v_wide boolean; -- whether an account's stripes must be held together
    v_posted bigint[];
    v_debit bigint[];
    v_credit bigint[];
    v_tids tid[];
    v_moved bigint;
begin
    select array_agg(d.id), array_agg(d.stripes), array_agg(d.risky), bool_or(d.risky and d.stripes > 1),
           array_agg(d.posted), array_agg(d.debit), array_agg(d.credit)
      into v_ids, v_stripes, v_risky, v_wide, v_posted, v_debit, v_credit
      from (select s.*, a.stripes, ledger_lowers(a.bounded, a.kind in ('asset', 'expense'), s.posted, s.debit, s.credit) as risky
              from (select l.id, sum(l.posted)::bigint as posted, sum(l.debit)::bigint as debit, sum(l.credit)::bigint as credit
                      from unnest(p_accounts, p_posted, p_debit, p_credit) as l(id, posted, debit, credit)
                     group by l.id order by l.id) s
             cross join lateral (select x.stripes, x.bounded, x.kind from ledger_accounts x where x.id = s.id offset 0) a) d;
    if v_wide then
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
    else
        update ledger_balances b
           set posted_minor = b.posted_minor + d.posted,
               pending_debit_minor = b.pending_debit_minor + d.debit,
               pending_credit_minor = b.pending_credit_minor + d.credit
          from unnest(v_ids, v_stripes, v_posted, v_debit, v_credit) as d(id, stripes, posted, debit, credit)
         where b.account_id = d.id and b.stripe = pg_backend_pid() % d.stripes;
    end if;
    get diagnostics v_moved = row_count;
    if v_moved <> cardinality(v_ids) then
        raise exception '% of % accounts have a balance', v_moved, cardinality(v_ids);
    end if;
    if true = any (v_risky) then
        perform ledger_check_floor(array(select d.id from unnest(v_ids, v_risky) as d(id, risky) where d.risky));
    end if;
end $$;
