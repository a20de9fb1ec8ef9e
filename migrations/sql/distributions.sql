-- Profit distributions: runs, a line for each holder, what is taken back later, and whose payouts an admin holds.
--
-- The terms of a run never change. Its figures change only while it is being calculated, and its lines only appear and
-- vanish then: what was approved is what is paid, whoever writes.

create table distributions (
    tenant_id uuid not null references tenants,
    mode text not null check (mode in ('test', 'live')),
    id text not null,
    campaign_id text not null,
    funder_id text not null,
    currency text not null,
    declared_profit_minor bigint not null check (declared_profit_minor between 0 and 9007199254740991),
    profit_share_bps int not null check (profit_share_bps between 0 and 10000),
    share_rounding text not null check (share_rounding in ('floor', 'half_even')),
    rule text not null check (rule in ('by_amount', 'by_amount_days')),
    period_start date not null,
    period_end date not null check (period_end >= period_start),
    record_date date not null check (record_date >= period_start),
    zone text not null,
    tax_bps int not null check (tax_bps between 0 and 10000),
    tax_rounding text not null check (tax_rounding in ('floor', 'half_even')),
    platform_fee_bps int not null check (platform_fee_bps between 0 and 10000),
    platform_fee_rounding text not null check (platform_fee_rounding in ('floor', 'half_even')),
    provider_fee_minor bigint not null check (provider_fee_minor >= 0),
    minimum_payout_minor bigint not null check (minimum_payout_minor >= 0),
    remainder text not null check (remainder = 'largest_remainder_by_id'),
    evidence text not null,
    evidence_url text,
    dry_run boolean not null,
    status text not null check (status in ('draft', 'calculating', 'calculated', 'pending_approval', 'approved', 'funding',
                                           'paying', 'partially_paid', 'paid', 'rejected', 'canceled')),
    lines int not null default 0 check (lines >= 0),
    share_minor bigint not null default 0,
    carried_in_minor bigint not null default 0,
    adjustment_minor bigint not null default 0,
    gross_minor bigint not null default 0,
    tax_minor bigint not null default 0,
    platform_fee_minor bigint not null default 0,
    provider_fees_minor bigint not null default 0,
    net_minor bigint not null default 0,
    carried_out_minor bigint not null default 0,
    kept_minor bigint not null default 0,
    recovered_minor bigint not null default 0,
    added_minor bigint not null default 0,
    hold_placed boolean not null default false,
    payings int not null default 0,
    error_code text,
    blocked_reason text,
    next_action_at timestamptz,
    declared_by text not null,
    submitted_by text,
    decided_by text,
    decided_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, id),
    foreign key (tenant_id, mode, campaign_id) references campaigns (tenant_id, mode, id),
    foreign key (tenant_id, mode, funder_id) references users (tenant_id, mode, id),
    check (share_minor + carried_in_minor + adjustment_minor = gross_minor + carried_out_minor),
    check (gross_minor = net_minor + tax_minor + platform_fee_minor + provider_fees_minor)
);
create index distributions_of on distributions (tenant_id, mode, campaign_id, created_at desc, id desc);
-- No period twice; what overlaps otherwise is refused under the campaign's lock.
create unique index distributions_one_a_period on distributions (tenant_id, mode, campaign_id, period_start, period_end)
    where not dry_run and status not in ('rejected', 'canceled');

-- No index names the status: it changes twice for each of a hundred thousand lines, in place where there is room.
create table distribution_lines (
    tenant_id uuid not null,
    mode text not null,
    distribution_id text not null,
    line_no int not null check (line_no > 0),
    holder_id text not null,
    weight numeric not null,
    share_minor bigint not null,
    carried_in_minor bigint not null,
    kept_in_minor bigint not null,
    adjustment_minor bigint not null,
    gross_minor bigint not null,
    tax_minor bigint not null,
    platform_fee_minor bigint not null,
    provider_fee_minor bigint not null,
    net_minor bigint not null,
    carried_out_minor bigint not null,
    status text not null check (status in ('calculated', 'held', 'queued', 'sending', 'unknown', 'paid', 'failed', 'returned',
                                           'carried_forward', 'credited_to_wallet', 'unclaimed')),
    error_code text,
    carried_into text,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, distribution_id, line_no),
    unique (tenant_id, mode, holder_id, distribution_id),
    foreign key (tenant_id, mode, distribution_id) references distributions (tenant_id, mode, id),
    constraint distribution_lines_add_up check (
        share_minor + carried_in_minor + adjustment_minor = gross_minor + carried_out_minor
        and gross_minor = net_minor + tax_minor + platform_fee_minor + provider_fee_minor
        and least(share_minor, kept_in_minor, gross_minor, tax_minor, platform_fee_minor, provider_fee_minor, net_minor) >= 0
        and (net_minor = 0) = (gross_minor = 0) and (carried_out_minor = 0 or gross_minor = 0))
) with (fillfactor = 70);

create table distribution_adjustments (
    tenant_id uuid not null references tenants,
    mode text not null check (mode in ('test', 'live')),
    id text not null,
    campaign_id text not null,
    holder_id text not null,
    investment_id text not null,
    source_id text not null,
    distribution_id text,
    amount_minor bigint not null check (amount_minor < 0),
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, id),
    unique (tenant_id, mode, source_id, investment_id),
    foreign key (tenant_id, mode, campaign_id) references campaigns (tenant_id, mode, id),
    foreign key (tenant_id, mode, investment_id) references investments (tenant_id, mode, id),
    foreign key (tenant_id, mode, source_id) references distributions (tenant_id, mode, id),
    foreign key (tenant_id, mode, distribution_id) references distributions (tenant_id, mode, id)
);
create index distribution_adjustments_of on distribution_adjustments (tenant_id, mode, campaign_id);

create table payout_holds (
    tenant_id uuid not null references tenants,
    mode text not null check (mode in ('test', 'live')),
    user_id text not null,
    held boolean not null,
    reason text not null,
    changed_by text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, user_id),
    foreign key (tenant_id, mode, user_id) references users (tenant_id, mode, id)
);

alter table investments add column charged_back_at timestamptz;

-- A rate of an amount that is not negative, rounded by name: docs/distributions.md.
create function portion(amount numeric, bps numeric, rounding text) returns numeric language sql immutable as $$
    select div(amount * bps, 10000) + case
        when rounding = 'half_even' and (
            mod(amount * bps, 10000) > 5000
            or mod(amount * bps, 10000) = 5000 and mod(div(amount * bps, 10000), 2) = 1
        ) then 1 else 0 end
$$;

create function distribution_fixed() returns trigger language plpgsql as $$
begin
    raise exception 'the terms and figures of distribution % are fixed', old.id using errcode = 'check_violation';
end $$;
create trigger distributions_terms_fixed before update of
    campaign_id, funder_id, currency, declared_profit_minor, profit_share_bps, share_rounding, rule, period_start, period_end,
    record_date, zone, tax_bps, tax_rounding, platform_fee_bps, platform_fee_rounding, provider_fee_minor,
    minimum_payout_minor, remainder, dry_run, declared_by
    on distributions for each row execute function distribution_fixed();
create trigger distributions_figures_fixed before update of
    lines, share_minor, carried_in_minor, adjustment_minor, gross_minor, tax_minor, platform_fee_minor, provider_fees_minor,
    net_minor, carried_out_minor, kept_minor, recovered_minor, added_minor
    on distributions for each row when (old.status <> 'calculating') execute function distribution_fixed();

create function distribution_line_fixed() returns trigger language plpgsql as $$
begin
    raise exception 'the figures of line % of % are fixed', old.line_no, old.distribution_id using errcode = 'check_violation';
end $$;
create trigger distribution_lines_figures_fixed before update of
    distribution_id, line_no, holder_id, weight, share_minor, carried_in_minor, kept_in_minor, adjustment_minor, gross_minor,
    tax_minor, platform_fee_minor, provider_fee_minor, net_minor, carried_out_minor
    on distribution_lines for each row execute function distribution_line_fixed();

create function distribution_lines_of_calculation() returns trigger language plpgsql as $$
begin
    if exists (select from changed c join distributions d
                 on d.tenant_id = c.tenant_id and d.mode = c.mode and d.id = c.distribution_id
                where d.status <> 'calculating') then
        raise exception 'lines come and go only while their run is calculated' using errcode = 'check_violation';
    end if;
    return null;
end $$;
create trigger distribution_lines_inserted after insert on distribution_lines
    referencing new table as changed for each statement execute function distribution_lines_of_calculation();
create trigger distribution_lines_deleted after delete on distribution_lines
    referencing old table as changed for each statement execute function distribution_lines_of_calculation();
