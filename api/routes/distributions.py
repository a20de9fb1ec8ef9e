"""Profit distributions: declare, calculate, submit; approve by a second person; fund, pay, close; and read.

Each command changes the run's row under lock and wakes its process, which reads it again.
"""

from typing import Annotated

from fastapi import Query, Request
from starlette.responses import JSONResponse

from activities.gateways.registry import payout_minimums
from api.auth import Principal
from api.campaign_terms import locked as locked_campaign
from api.commands import Reply, Unit, execute
from api.dependencies import requires
from api.distributions import (
    CloseRequest,
    DistributionLineView,
    DistributionRequest,
    DistributionView,
    OwnLineView,
    RejectRequest,
    RetryRequest,
    declared,
    distribution_view,
    line_view,
    locked,
    own_line_view,
    wake_run,
    whole_view,
)
from api.envelope import Envelope, encode_cursor, page, success
from api.paging import Cursor, Limit, before, next_cursor
from api.policy import authorize
from api.routes.campaign_life import ReasonRequest
from api.routing import api_router
from domain.distribution import DISTRIBUTION, DistributionStatus, LineStatus
from domain.distribution_run import (
    check_declaration,
    check_record_date,
    check_schedule,
    check_second_person,
    check_submittable,
)
from domain.errors import Conflict, NotFound
from infra.database import Database
from models import distribution_lines, distribution_money, distribution_queue
from models.base import insert, update
from models.campaign import get_campaign
from models.clock import business_date
from models.distribution import (
    Distribution,
    change_status,
    distributions_page,
    get_distribution,
    is_declared,
)

router = api_router(prefix="/v1", tags=["distributions"])
_D = DistributionStatus
_AT = "/campaigns/{campaign_id}/distributions/{distribution_id}"
_ADMIN = "/admin/distributions/{distribution_id}"
_OPEN_ENDED = (_D.PARTIALLY_PAID, _D.PAID)
"""A run that was paid may have lines again that are not: their bank returned them."""
_NOTHING_WAITS = {"blocked_reason": None, "next_action_at": None}


async def _done(unit: Unit, run: Distribution, verb: str, *, status: int = 202, **detail: object) -> Reply:
    """Say in the audit log what was done, wake the run's process, and answer with the run."""
    await unit.audit(f"distribution.{verb}", "distribution", run.id, **detail)
    await wake_run(unit, run.id)
    return Reply(status, distribution_view(unit.scope, run))


@router.post("/campaigns/{campaign_id}/distributions", status_code=201, response_model=Envelope[DistributionView])
async def declare_distribution(
    request: Request,
    campaign_id: str,
    body: DistributionRequest,
    principal: Annotated[Principal, requires("distribution.declare")],
) -> JSONResponse:
    """Declare a funded campaign's profit for a period. One run a period counts; dry runs do not.

    With a `schedule` it may be declared before its record date is over: it calculates and submits itself.
    """

    async def handle(unit: Unit) -> Reply:
        campaign = await locked_campaign(unit, campaign_id, "distribution.declare")
        zone, today = await business_date(unit.tx, unit.as_of)
        scheduled = body.schedule is not None
        check_declaration(campaign.status, record_date=body.record_date, today=today, scheduled=scheduled)
        run = declared(unit, campaign, body, zone)
        milestones = max(len(campaign.milestones or ()), 1)
        check_schedule(run.calculate_on, run.milestone, dry_run=run.dry_run, milestones=milestones)
        if not run.dry_run and await is_declared(unit.tx, campaign.id, run.period_start, run.period_end):
            raise Conflict("distribution_exists", "A distribution for a part of this period exists already.")
        await insert(unit.tx, run)
        await unit.timeline(
            run.id, "distribution_declared", amount_minor=run.declared_profit_minor, currency=run.currency
        )
        await unit.audit("distribution.declared", "distribution", run.id, campaign_id=campaign.id, dry_run=run.dry_run)
        if scheduled:
            await wake_run(unit, run.id)
        return Reply(201, distribution_view(unit.scope, run))

    return await execute(request, principal, "distribution.declare", body, handle)


@router.post(f"{_AT}/calculate", status_code=202, response_model=Envelope[DistributionView])
async def calculate_distribution(
    request: Request,
    campaign_id: str,
    distribution_id: str,
    principal: Annotated[Principal, requires("distribution.declare")],
) -> JSONResponse:
    """Calculate its lines, or calculate them anew: as often as wanted, until it is approved."""

    async def handle(unit: Unit) -> Reply:
        run = await locked(unit, distribution_id, "distribution.declare", campaign_id)
        check_record_date(run.record_date, (await business_date(unit.tx, unit.as_of))[1])
        if not await change_status(unit.tx, unit.scope, run, _D.CALCULATING, unit.as_of, **_NOTHING_WAITS):
            raise Conflict("distribution_fixed", "It is being calculated, is under review, or has been decided.")
        return await _done(unit, run, "calculate")

    return await execute(request, principal, "distribution.calculate", None, handle)


@router.post(f"{_AT}/submit", status_code=202, response_model=Envelope[DistributionView])
async def submit_distribution(
    request: Request,
    campaign_id: str,
    distribution_id: str,
    principal: Annotated[Principal, requires("distribution.declare")],
) -> JSONResponse:
    """Hand the calculated run in, for a second person to approve."""

    async def handle(unit: Unit) -> Reply:
        run = await locked(unit, distribution_id, "distribution.declare", campaign_id)
        check_submittable(run.status, dry_run=run.dry_run, error_code=run.error_code)
        await change_status(unit.tx, unit.scope, run, _D.PENDING_APPROVAL, unit.as_of, submitted_by=principal.user_id)
        return await _done(unit, run, "submit")

    return await execute(request, principal, "distribution.submit", None, handle)


@router.post(f"{_AT}/fund", status_code=202, response_model=Envelope[DistributionView])
async def fund_distribution(
    request: Request,
    campaign_id: str,
    distribution_id: str,
    principal: Annotated[Principal, requires("distribution.declare")],
) -> JSONResponse:
    """The money is in the owner's wallet now: reserve it, and begin to pay. Otherwise the run looks by itself, rarely."""

    async def handle(unit: Unit) -> Reply:
        run = await locked(unit, distribution_id, "distribution.declare", campaign_id)
        if run.status is not _D.FUNDING:
            raise Conflict("distribution_not_funding", "Only an approved run waits for its money.")
        if not run.hold_placed:
            if not await distribution_money.hold(unit.tx, run, unit.as_of):
                raise Conflict("not_funded", f"The wallet holds less than {run.to_fund_minor} minor units.")
            changes = {"hold_placed": True, **_NOTHING_WAITS}
            await update(unit.tx, Distribution, {"id": run.id}, changes)
            run = run.model_copy(update=changes)
        return await _done(unit, run, "fund")

    return await execute(request, principal, "distribution.fund", None, handle)


@router.post(f"{_AT}/cancel", response_model=Envelope[DistributionView])
async def cancel_distribution(
    request: Request,
    campaign_id: str,
    distribution_id: str,
    body: ReasonRequest,
    principal: Annotated[Principal, requires("distribution.declare")],
) -> JSONResponse:
    """Give the run up before it pays. Reserved money is free again, and its period may be declared anew."""

    async def handle(unit: Unit) -> Reply:
        run = await locked(unit, distribution_id, "distribution.declare", campaign_id)
        before_it = run.status
        if not DISTRIBUTION.allows(before_it, _D.CANCELED):
            raise Conflict("distribution_paying", "Paying has begun, or the run is over.")
        await distribution_money.release(unit.tx, run, unit.as_of)
        await distribution_lines.release_taken(unit.tx, run)
        story = {"reason": body.reason}
        await change_status(unit.tx, unit.scope, run, _D.CANCELED, unit.as_of, story=story, **_NOTHING_WAITS)
        if before_it is not _D.DRAFT or run.calculate_on is not None:
            return await _done(unit, run, "cancel", status=200, reason=body.reason)
        await unit.audit("distribution.cancel", "distribution", run.id, reason=body.reason)
        return Reply(200, distribution_view(unit.scope, run))

    return await execute(request, principal, "distribution.cancel", body, handle)


@router.post(f"{_ADMIN}/approve", status_code=202, response_model=Envelope[DistributionView])
async def approve_distribution(
    request: Request, distribution_id: str, principal: Annotated[Principal, requires("distribution.approve")]
) -> JSONResponse:
    """Approve what somebody else has declared and submitted. From here on nothing of it is calculated again."""

    async def handle(unit: Unit) -> Reply:
        run = await locked(unit, distribution_id, "distribution.approve")
        if run.status is not _D.PENDING_APPROVAL:
            raise Conflict("distribution_not_submitted", "Only a submitted run can be approved or rejected.")
        check_second_person(principal.user_id, run.declared_by, run.submitted_by)
        decided = {"decided_by": principal.user_id, "decided_at": unit.as_of}
        await change_status(unit.tx, unit.scope, run, _D.APPROVED, unit.as_of, **decided)
        return await _done(unit, run, "approve", net_minor=run.net_minor)

    return await execute(request, principal, "distribution.approve", None, handle)


@router.post(f"{_ADMIN}/reject", response_model=Envelope[DistributionView])
async def reject_distribution(
    request: Request,
    distribution_id: str,
    body: RejectRequest,
    principal: Annotated[Principal, requires("distribution.approve")],
) -> JSONResponse:
    """Send a submitted run back to be calculated again, or reject it for good."""

    async def handle(unit: Unit) -> Reply:
        run = await locked(unit, distribution_id, "distribution.approve")
        if run.status is not _D.PENDING_APPROVAL:
            raise Conflict("distribution_not_submitted", "Only a submitted run can be approved or rejected.")
        if body.final:
            await distribution_lines.release_taken(unit.tx, run)
        decided = {"decided_by": principal.user_id, "decided_at": unit.as_of}
        target = _D.REJECTED if body.final else _D.CALCULATED
        story = {"reason": body.reason}
        await change_status(unit.tx, unit.scope, run, target, unit.as_of, story=story, **decided)
        return await _done(unit, run, "reject", status=200, reason=body.reason, final=body.final)

    return await execute(request, principal, "distribution.reject", body, handle)


@router.post(f"{_ADMIN}/retry", status_code=202, response_model=Envelope[DistributionView])
async def retry_distribution(
    request: Request,
    distribution_id: str,
    principal: Annotated[Principal, requires("distribution.pay")],
    body: RetryRequest | None = None,
) -> JSONResponse:
    """Put failed and returned lines back in the queue under the same numbers, and held ones that are held no more.

    Each goes where its holder prefers it by now, or with `to: wallet` into the wallet.
    """
    to_wallet = body is not None and body.to == "wallet"

    async def handle(unit: Unit) -> Reply:
        run = await locked(unit, distribution_id, "distribution.pay")
        requeued = 0
        if run.status in _OPEN_ENDED and run.blocked_reason != "ledger_differs":
            campaign = await get_campaign(unit.tx, run.campaign_id)
            assert campaign is not None
            requeued = await distribution_queue.requeue_lines(
                unit.tx, run, kyc_level=campaign.min_kyc_level, least=payout_minimums(run.currency), to_wallet=to_wallet
            )
        if requeued == 0:
            raise Conflict("nothing_to_retry", "The run has no line that could be paid now.")
        changes = {"payings": run.payings + 1, **_NOTHING_WAITS}
        await change_status(unit.tx, unit.scope, run, _D.PAYING, unit.as_of, story={"requeued": requeued}, **changes)
        return await _done(unit, run, "retry", lines=requeued)

    return await execute(request, principal, "distribution.retry", body, handle)


@router.post(f"{_ADMIN}/close", response_model=Envelope[DistributionView])
async def close_distribution(
    request: Request,
    distribution_id: str,
    body: CloseRequest,
    principal: Annotated[Principal, requires("distribution.pay")],
) -> JSONResponse:
    """End a run whose last lines could not be paid: they are carried into the next run, or unclaimed. Of a run that is paid
    already: what its lines still carry, and no later run has taken over, is unclaimed."""

    async def handle(unit: Unit) -> Reply:
        run = await locked(unit, distribution_id, "distribution.pay")
        unclaimed = body.rest == "unclaimed"
        lines = minor = 0
        if run.status in _OPEN_ENDED and run.blocked_reason != "ledger_differs":
            target = LineStatus.UNCLAIMED if unclaimed else LineStatus.CARRIED_FORWARD
            lines, minor = await distribution_lines.set_aside(unit.tx, run.id, target)
        if run.status is _D.PAID and unclaimed:
            carried, carried_minor = await distribution_lines.give_up_carried(unit.tx, run.id)
            lines, minor = lines + carried, minor + carried_minor
        if lines == 0:
            raise Conflict("nothing_to_close", "Nothing of this run is left over.")
        if unclaimed:
            await distribution_money.give_up(unit.tx, run, minor, unit.as_of, occasion=unit.new_id("unc"))
        story = {"reason": body.reason, "rest": body.rest, "lines": lines}
        if run.status is _D.PARTIALLY_PAID:
            await change_status(unit.tx, unit.scope, run, _D.PAID, unit.as_of, story=story, **_NOTHING_WAITS)
        else:
            await unit.timeline(run.id, "distribution_closed", **story)
        await unit.audit("distribution.close", "distribution", run.id, **story)
        return Reply(200, distribution_view(unit.scope, run))

    return await execute(request, principal, "distribution.close", body, handle)


@router.get("/campaigns/{campaign_id}/distributions", response_model=Envelope[list[DistributionView]])
async def list_distributions(
    request: Request,
    campaign_id: str,
    principal: Annotated[Principal, requires("distribution.read")],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> JSONResponse:
    """A campaign's runs, newest first."""
    place = before(cursor)
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        campaign = await get_campaign(tx, campaign_id)
        if campaign is None:
            raise NotFound("distribution")
        authorize(principal, "distribution.read", owner_id=campaign.owner_id)
        rows = await distributions_page(tx, campaign_id, place, limit)
    return page(request, [distribution_view(principal.scope, row) for row in rows], next_cursor(rows, limit))


@router.get(_AT, response_model=Envelope[DistributionView])
async def read_distribution(
    request: Request,
    campaign_id: str,
    distribution_id: str,
    principal: Annotated[Principal, requires("distribution.read")],
) -> JSONResponse:
    """One run: totals, how many lines stand how, what it waits for, and its timeline."""
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        run = await get_distribution(tx, distribution_id)
        if run is None or run.campaign_id != campaign_id:
            raise NotFound("distribution")
        authorize(principal, "distribution.read", owner_id=run.funder_id)
        return success(request, await whole_view(tx, principal.scope, run))


@router.get(f"{_AT}/lines", response_model=Envelope[list[DistributionLineView]])
async def list_distribution_lines(
    request: Request,
    campaign_id: str,
    distribution_id: str,
    principal: Annotated[Principal, requires("distribution.read")],
    status: LineStatus | None = None,
    after: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Limit = 50,
) -> JSONResponse:
    """The lines after number `after`, in order; `status` narrows."""
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        run = await get_distribution(tx, distribution_id)
        if run is None or run.campaign_id != campaign_id:
            raise NotFound("distribution")
        authorize(principal, "distribution.read", owner_id=run.funder_id)
        rows = await distribution_lines.lines_page(tx, run.id, status=status, after=after, limit=limit)
    return page(request, [line_view(row) for row in rows], None)


@router.get("/users/{user_id}/distributions", response_model=Envelope[list[OwnLineView]])
async def list_own_distributions(
    request: Request,
    user_id: str,
    principal: Annotated[Principal, requires("distribution_line.read")],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> JSONResponse:
    """One's own lines of every run that has begun to pay, newest first."""
    place = before(cursor)
    authorize(principal, "distribution_line.read", owner_id=user_id)
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        rows = await distribution_lines.lines_of_holder(tx, user_id, place, limit)
    more = (
        encode_cursor(rows[-1]["created_at"].isoformat(), rows[-1]["distribution_id"]) if len(rows) == limit else None
    )
    return page(request, [own_line_view(row) for row in rows], more)
