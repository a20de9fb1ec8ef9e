"""Distribution runs, and whose payouts an admin holds. The lines: `models/distribution_lines.py`."""

from datetime import UTC, date, datetime
from typing import Any, ClassVar, Final

from sqlmodel import Field

from contracts.base import Scope
from domain.allocation import RemainderRule
from domain.distribution import DISTRIBUTION, DistributionStatus, DistributionTerms, PayTo, ShareRule
from domain.distribution_run import OVER, CalculateOn
from domain.money import Rounding
from infra.database import Tx, fetch_one
from models import timeline
from models.base import Scoped, by_id, move, read, read_all, update

LATEST: Final = (datetime(9999, 1, 1, tzinfo=UTC), "~")
"""Where a newest-first page without a cursor begins: (created_at, id)."""


class Distribution(Scoped, table=True):
    """One run: its terms, which never change, and its totals, which are its lines' (zero before the calculation).

    Amounts in minor units of `currency`. `funder_id`: whose wallet pays. `hold_placed`: the money is reserved. `payings`: how
    often paying was begun. `error_code`: why the calculation found nothing to pay. `provider_fees_minor` is the total of
    the lines' provider fees, `provider_fee_minor` the term. `woken`: its process was told of news it has not looked at.
    `calculate_on`, `milestone`: its schedule, None for a run that is calculated by hand.
    """

    __tablename__: ClassVar[str] = "distributions"

    id: str = Field(primary_key=True)
    campaign_id: str
    funder_id: str
    currency: str
    declared_profit_minor: int
    profit_share_bps: int
    share_rounding: Rounding
    rule: ShareRule
    period_start: date
    period_end: date
    record_date: date
    zone: str
    tax_bps: int
    tax_rounding: Rounding
    platform_fee_bps: int
    platform_fee_rounding: Rounding
    provider_fee_minor: int
    minimum_payout_minor: int
    remainder: RemainderRule
    evidence: str
    evidence_url: str | None = None
    dry_run: bool
    pay_to: PayTo = PayTo.WALLET
    calculate_on: CalculateOn | None = None
    milestone: int | None = None
    status: DistributionStatus
    lines: int = 0
    share_minor: int = 0
    carried_in_minor: int = 0
    adjustment_minor: int = 0
    gross_minor: int = 0
    tax_minor: int = 0
    platform_fee_minor: int = 0
    provider_fees_minor: int = 0
    net_minor: int = 0
    carried_out_minor: int = 0
    kept_minor: int = 0
    recovered_minor: int = 0
    added_minor: int = 0
    hold_placed: bool = False
    woken: bool = False
    payings: int = 0
    error_code: str | None = None
    blocked_reason: str | None = None
    next_action_at: datetime | None = None
    declared_by: str
    submitted_by: str | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    created_at: datetime

    @property
    def terms(self) -> DistributionTerms:
        """What it is calculated by."""
        return DistributionTerms(**{name: getattr(self, name) for name in DistributionTerms.__dataclass_fields__})

    @property
    def to_fund_minor(self) -> int:
        """What must be held before the first line is paid."""
        return self.share_minor + self.added_minor


class PayoutHold(Scoped, table=True):
    """Whether a person's lines wait, since an admin said so, and why."""

    __tablename__: ClassVar[str] = "payout_holds"

    user_id: str = Field(primary_key=True)
    held: bool
    reason: str
    changed_by: str
    created_at: datetime


class PayoutPreference(Scoped, table=True):
    """Where a person wants profit to be paid: a beneficiary of its own, or the wallet (None)."""

    __tablename__: ClassVar[str] = "payout_preferences"

    user_id: str = Field(primary_key=True)
    beneficiary_id: str | None = None
    created_at: datetime


class DistributionAdjustment(Scoped, table=True):
    """What a holder had too much of an earlier run (`source_id`), because one investment was taken back after its record
    date. Below zero. `distribution_id`: the run that takes it, None while none does."""

    __tablename__: ClassVar[str] = "distribution_adjustments"

    id: str = Field(primary_key=True)
    campaign_id: str
    holder_id: str
    investment_id: str
    source_id: str
    distribution_id: str | None = None
    amount_minor: int
    created_at: datetime


async def get_distribution(tx: Tx, distribution_id: str, *, lock: bool = False) -> Distribution | None:
    """One run; `lock` holds it until the transaction ends."""
    return await by_id(tx, Distribution, distribution_id, lock=lock)


async def is_declared(tx: Tx, campaign_id: str, start: date, end: date) -> bool:
    """Whether a run that counts covers any day of the period. Exact under the campaign's lock."""
    row = await fetch_one(
        tx,
        """select exists (select from distributions where campaign_id = %s and not dry_run and status <> all(%s)
           and period_start <= %s and period_end >= %s) as found""",
        (campaign_id, [str(each) for each in sorted(OVER)], end, start),
    )
    return row is not None and bool(row["found"])


async def change_status(
    tx: Tx, scope: Scope, run: Distribution, target: DistributionStatus, as_of: datetime, **changes: Any
) -> bool:
    """Move a run that was read under lock, and tell its story; False when its present status forbids it. Updates `run`."""
    story: dict[str, Any] = changes.pop("story", {})
    if not await move(tx, Distribution, DISTRIBUTION, run.id, target, **changes):
        return False
    for name, value in {"status": target, **changes}.items():
        setattr(run, name, value)
    await timeline.record(tx, scope, [run.id], f"distribution_{target}", as_of, story)
    return True


async def reopen(tx: Tx, scope: Scope, run_id: str, as_of: datetime) -> None:
    """A bank returned a line of the run: if it was paid, somebody must see to the line. Lock order: payout, then run."""
    run = await get_distribution(tx, run_id, lock=True)
    if run is not None and run.status is DistributionStatus.PAID:
        await change_status(
            tx,
            scope,
            run,
            DistributionStatus.PARTIALLY_PAID,
            as_of,
            blocked_reason="unpaid_lines",
            story={"returned": 1},
        )


async def note(tx: Tx, run: Distribution, **changes: Any) -> None:
    """Write down what is new of a run that was read under lock; what its row says already is not written again."""
    news = {name: value for name, value in changes.items() if getattr(run, name) != value}
    for name, value in news.items():
        setattr(run, name, value)
    if news:
        await update(tx, Distribution, {"id": run.id}, news)


async def wake_waiting(tx: Tx, campaign_id: str, milestones: list[int]) -> list[str]:
    """Scheduled runs that wait for one of these milestones, and for no date; their processes are to be told, once."""
    woken = await tx.execute(
        """update distributions set woken = true, updated_at = now()
            where campaign_id = %s and milestone = any(%s) and status = 'draft' and next_action_at is null and not woken
           returning id""",
        (campaign_id, milestones),
    )
    return [row["id"] for row in await woken.fetchall()]


async def distributions_page(
    tx: Tx, campaign_id: str, before: tuple[datetime, str] | None, limit: int
) -> list[Distribution]:
    """A campaign's runs, newest first. `before`: (created_at, id) of the last row of the page before."""
    at, last = before or LATEST
    return await read_all(
        tx,
        Distribution,
        """select * from distributions where campaign_id = %s and (created_at, id) < (%s, %s)
           order by created_at desc, id desc limit %s""",
        (campaign_id, at, last, limit),
    )


async def hold_payouts(
    tx: Tx, scope: Scope, user_id: str, *, held: bool, reason: str, by: str, as_of: datetime
) -> PayoutHold:
    """Hold a person's lines, or let them go: for runs that begin to pay from now on, and for lines put back in the queue."""
    row = await read(
        tx,
        PayoutHold,
        """insert into payout_holds (tenant_id, mode, user_id, held, reason, changed_by, created_at)
           values (%(tenant)s, %(mode)s, %(user)s, %(held)s, %(reason)s, %(by)s, %(at)s)
           on conflict (tenant_id, mode, user_id) do update set held = excluded.held, reason = excluded.reason,
               changed_by = excluded.changed_by, created_at = excluded.created_at, updated_at = now()
           returning *""",
        {
            "tenant": scope.tenant_id, "mode": str(scope.mode), "user": user_id, "held": held, "reason": reason, "by": by,
            "at": as_of,
        },
    )  # fmt: skip
    assert row is not None
    return row


async def prefer_payouts(
    tx: Tx, scope: Scope, user_id: str, beneficiary_id: str | None, as_of: datetime
) -> PayoutPreference:
    """Where the person's lines go from now on: for runs that begin to pay, and for lines put back in the queue."""
    row = await read(
        tx,
        PayoutPreference,
        """insert into payout_preferences (tenant_id, mode, user_id, beneficiary_id, created_at) values (%s, %s, %s, %s, %s)
           on conflict (tenant_id, mode, user_id) do update set beneficiary_id = excluded.beneficiary_id,
               created_at = excluded.created_at, updated_at = now()
           returning *""",
        (scope.tenant_id, str(scope.mode), user_id, beneficiary_id, as_of),
    )
    assert row is not None
    return row


async def preferred(tx: Tx, user_id: str) -> str | None:
    """The beneficiary the person wants to be paid to; None: the wallet."""
    row = await fetch_one(tx, "select beneficiary_id from payout_preferences where user_id = %s", (user_id,))
    return row["beneficiary_id"] if row else None
