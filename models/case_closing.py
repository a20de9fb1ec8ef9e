"""Closing the cases of refused money, by hand or by a retry, together with what stands still for it.

A settlement's line that fails opens up to two cases: one about the line (its investment, or the attempt at the provider)
and one about its refund. They are one fact: whoever closes one closes both, and settles the line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

from contracts.base import Scope
from domain.payment import CAMPAIGN_FAILED
from infra.database import Tx, fetch_one
from models.case import CLOSE, UNEXPECTED_MONEY, Case, get_case, resolve_about

RETRIED: Final = "retried"
"""The resolution of cases whose lines were put back in the queue."""

_PAYMENT: Final[LiteralString] = """
select case %(kind)s
    when 'failed_refund' then (select payment_id from refunds where id = %(subject)s and reason = %(reason)s)
    else coalesce(
        (select payment_id from investments where id = %(subject)s),
        (select a.payment_id from payment_attempts a where a.reference = %(subject)s and a.ordinal = (
            select max(ordinal) from payment_attempts b where b.payment_id = a.payment_id)))
    end as payment_id
"""
"""Whose line a case is about. Not that of an earlier attempt, nor of money that came too late: they have no line."""
_ABOUT: Final[LiteralString] = """
select investment_id from settlement_lines where payment_id = any(%(payments)s)
union all
(select distinct on (payment_id) reference from payment_attempts where payment_id = any(%(payments)s)
  order by payment_id, ordinal desc)
union all
select id from refunds where payment_id = any(%(payments)s) and reason = %(reason)s
"""
_CLOSE_ABOUT: Final[LiteralString] = f"""
update cases set status = 'resolved', resolution = %(resolution)s, resolved_at = %(as_of)s
 where status = 'open' and kind in ('failed_line', 'failed_refund') and subject_id in ({_ABOUT})
"""  # noqa: S608  constant text
_REFUNDS_GO_ON = """
update refunds set blocked_reason = null, updated_at = now()
 where payment_id = any(%(payments)s) and reason = %(reason)s and blocked_reason = 'refund_failed'
"""
_SETTLEMENTS = """
select id from settlements where id in (
       select settlement_id from settlement_lines where payment_id = %s and status = 'failed' and dealt_with_at is null)
 order by id for update
"""
_WORKED_ON = """
select 1 from settlement_lines where payment_id = %s and (status in ('queued', 'unknown', 'pending')
    or status = 'failed' and dealt_with_at is null and settlement_id <> all(%s)) limit 1
"""
_DEALT_WITH = """
update settlement_lines set dealt_with_at = %s, updated_at = now()
 where payment_id = %s and status = 'failed' and dealt_with_at is null
"""
_SETTLEMENTS_GO_ON = """
update settlements s set blocked_reason = null, updated_at = now()
 where id = any(%s) and blocked_reason = 'failed_lines' and not exists (
       select from settlement_lines l
        where l.settlement_id = s.id and l.status = 'failed' and l.dealt_with_at is null)
"""
_REFUND_GOES_ON = """
update refunds set blocked_reason = null, updated_at = now()
 where id = %s and blocked_reason = 'refund_failed' returning attempt_reference, reason
"""


@dataclass(frozen=True)
class Concern:
    """What a case is about: the payment whose line failed, none where there is no line; the settlements, which are held."""

    payment_id: str | None
    settlements: list[str]
    worked_on: bool
    """A settlement still works on the line, or ended it just now: it may yet succeed, or is not held."""


async def concern_of(tx: Tx, case: Case) -> Concern:
    """Hold the settlements whose failed line the case is about, before the case itself: a retry takes the same order."""
    found = await fetch_one(tx, _PAYMENT, {"kind": case.kind, "subject": case.subject_id, "reason": CAMPAIGN_FAILED})
    payment: str | None = found["payment_id"] if found else None
    if payment is None:
        return Concern(None, [], worked_on=False)
    settlements = [row["id"] for row in await (await tx.execute(_SETTLEMENTS, (payment,))).fetchall()]
    return Concern(payment, settlements, await fetch_one(tx, _WORKED_ON, (payment, settlements)) is not None)


async def resolve_by_hand(tx: Tx, scope: Scope, case: Case, concern: Concern, resolution: str, as_of: datetime) -> Case:
    """Close it with somebody's words: its line is dealt with, never to be retried, and nothing stands still for it any more.

    The caller has checked that it may be closed, and holds it. A settlement goes on being blocked while another of its
    failed lines is not dealt with.
    """
    await tx.execute(CLOSE, (resolution, as_of, [case.id]))
    if concern.payment_id is not None and concern.settlements:
        await tx.execute(_DEALT_WITH, (as_of, concern.payment_id))
        await _close_about(tx, [concern.payment_id], resolution, as_of)
        await tx.execute(_SETTLEMENTS_GO_ON, (concern.settlements,))
    elif case.kind == "failed_refund":
        row = await fetch_one(tx, _REFUND_GOES_ON, (case.subject_id,))
        if row is not None and row["reason"] != CAMPAIGN_FAILED:
            await resolve_about(tx, scope, [row["attempt_reference"]], UNEXPECTED_MONEY, resolution, as_of)
    closed = await get_case(tx, case.id)
    assert closed is not None
    return closed


async def resolve_retried(tx: Tx, payments: Sequence[str], as_of: datetime) -> None:
    """Close the cases of lines that were just put back in the queue: what fails again opens them again."""
    await _close_about(tx, payments, RETRIED, as_of)


async def _close_about(tx: Tx, payments: Sequence[str], resolution: str, as_of: datetime) -> None:
    values: dict[str, Any] = {
        "payments": list(payments), "reason": CAMPAIGN_FAILED, "resolution": resolution, "as_of": as_of,
    }  # fmt: skip
    await tx.execute(_CLOSE_ABOUT, values)
    await tx.execute(_REFUNDS_GO_ON, values)
