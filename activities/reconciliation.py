"""Provider = ledger = rows (A2): every payment the provider lists, every booking, every row, compared by our reference.
Money out is compared beside it (`payout_reconciliation.py`).

The providers' own list endpoints are read, so this works against real accounts as against the sandbox. A reference with
a call under way is counted as in flight, not as a finding; it must settle by itself, and the next audit sees it.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from activities.gateways.protocols import PaymentRail, RefundFact
from activities.gateways.registry import PAYOUT_RAILS
from activities.payout_reconciliation import compare_payouts
from activities.rails import Rails
from contracts.base import Mode, Scope
from infra.database import Database
from models.distribution_audit import wrong_distributions
from models.milestone_audit import wrong_releases
from models.payout_reconciliation import wrong_holds
from models.provider import ProviderAccount, accounts
from models.reconciliation import Side, begin, first_attempt_at, our_sides, unmatched_payments, wrong_counters
from models.refund_reconciliation import wrong_credits

_MAX_PAGES = 100_000
_MARGIN = timedelta(days=1)


@dataclass
class Reconciliation:
    """What was compared, and what did not agree."""

    findings: list[str] = field(default_factory=list)
    compared: int = 0
    in_flight: list[str] = field(default_factory=list)
    """What did not agree, and is excused: a call about it is under way."""


@dataclass
class _Listed:
    """One payment in the provider's list, under our reference or a name for one without."""

    name: str
    provider_id: str | None
    captured: int
    refunded: int = 0


async def reconcile(db: Database, rails: Rails, scope: Scope | None = None) -> Reconciliation:
    """Compare all three sides for every provider account (of `scope`, if given), and the counters with the rows.

    `db` has the audit role.
    """
    result = Reconciliation()
    async with db.transaction() as tx:
        found = [each for each in await accounts(tx) if scope is None or scope_of(each) == scope]
        result.findings += [f"A9 {text}" for text in await wrong_counters(tx)]
        result.findings += [f"A2 {text}" for text in await unmatched_payments(tx)]
        result.findings += [f"A7 {text}" for text in await wrong_distributions(tx)]
        result.findings += [f"A2 {text}" for text in await wrong_holds(tx)]
        result.findings += [f"A2 {text}" for text in await wrong_releases(tx)]
        result.findings += [f"A2 {text}" for text in await wrong_credits(tx)]
    for account in found:
        await _compare(db, account, rails.build(account), result)
        if account.provider in PAYOUT_RAILS:
            sent = await compare_payouts(db, account, rails.build_payout_rail(account))
            result.findings += sent.findings
            result.compared += sent.compared
            result.in_flight += sent.in_flight
    return result


def scope_of(account: ProviderAccount) -> Scope:
    """Whose account it is."""
    return Scope(tenant_id=account.tenant_id, mode=Mode(account.mode))


async def _compare(db: Database, account: ProviderAccount, rail: PaymentRail, result: Reconciliation) -> None:
    """The provider is read first, page by page: what our rows learned since then is in flight, for its page may be older."""
    async with db.transaction() as tx:
        begun, first = await begin(tx), await first_attempt_at(tx, account)
    since = min(first or datetime.now(UTC), datetime.now(UTC)) - _MARGIN
    listed = await _listed(rail, since)
    async with db.transaction() as tx:
        ours, books = await our_sides(tx, account, begun)
    theirs = _by_reference(listed, ours)
    where = f"{account.tenant_id}/{account.mode} {account.provider}"
    for reference in sorted(theirs.keys() | ours.keys() | books.keys()):
        result.compared += 1
        text = _disagreement(theirs.get(reference), books.get(reference), ours.get(reference))
        if text is None:
            continue
        if reference in ours and ours[reference].in_flight:
            result.in_flight.append(f"{where} {reference}: {text}")
        else:
            result.findings.append(f"A2 {where} {reference}: {text}")


async def _listed(rail: PaymentRail, since: datetime) -> list[_Listed]:
    """Every payment of the account, ours or not. A page may repeat what another showed: the last one seen stands."""
    found: dict[str, _Listed] = {}
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        payments = await rail.list_payments(since=since, cursor=cursor)
        for each in payments.payments:
            name = each.reference or f"(no reference) {each.provider_id}"
            found[each.provider_id or name] = _Listed(name, each.provider_id, each.captured_minor)
        cursor = payments.next_cursor
        if cursor is None:
            break
    for payment, minor in (await _refunded(rail, since)).items():
        if payment in found:
            found[payment].refunded = minor
    return list(found.values())


async def _refunded(rail: PaymentRail, since: datetime) -> defaultdict[str, int]:
    """What was given back of each payment, by the provider's id."""
    refunded: defaultdict[str, int] = defaultdict(int)
    seen: set[str] = set()
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        refunds = await rail.list_refunds(since=since, cursor=cursor)
        for each in refunds.refunds:
            if each.fact is RefundFact.SUCCEEDED and each.provider_id not in seen:
                seen.add(each.provider_id or "")
                refunded[each.payment_provider_id or ""] += each.amount_minor or 0
        cursor = refunds.next_cursor
        if cursor is None:
            break
    return refunded


_UNKNOWN: Final = Side(0, 0)


def _by_reference(payments: list[_Listed], ours: dict[str, Side]) -> dict[str, Side]:
    """All that the provider took and gave back under each reference. What is not in our books (a second payment under one of
    ours, money in another currency) counts until it has gone back in full: then it is over."""
    sides: dict[str, Side] = {}
    for each in payments:
        row = ours.get(each.name, _UNKNOWN)
        second = row.provider_id not in (None, each.provider_id)
        if (second or row.unbooked) and each.captured == each.refunded:
            continue
        so_far = sides.get(each.name, Side(0, 0))
        sides[each.name] = Side(so_far.captured + each.captured, so_far.refunded + each.refunded)
    return sides


def _disagreement(theirs: Side | None, books: Side | None, ours: Side | None) -> str | None:
    """None when all three agree about captured and refunded money; else what each says."""
    nothing = Side(0, 0)
    sides = {"provider": theirs or nothing, "ledger": books or nothing, "rows": ours or nothing}
    money = {(side.captured, side.refunded) for side in sides.values()}
    if len(money) == 1:
        return None
    said = ", ".join(f"{name} {side.captured} captured {side.refunded} refunded" for name, side in sides.items())
    if theirs is not None and theirs.captured and ours is None:
        return f"orphan at the provider, unknown to us ({said})"
    if ours is not None and ours.captured and (theirs is None or not theirs.captured):
        return f"orphan of ours, unknown to the provider ({said})"
    return said
