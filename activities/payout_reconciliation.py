"""Provider = ledger = rows for money out (A2): every transfer the provider lists, compared by our reference."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from activities.gateways.protocols import PayoutAnswer, PayoutFact, PayoutRail
from infra.database import Database
from models.payout_reconciliation import Sent, first_payout_at, sent_side
from models.provider import ProviderAccount
from models.reconciliation import begin

_MAX_PAGES: Final = 100_000
_MARGIN: Final = timedelta(days=1)
_UNDECIDED: Final = (PayoutFact.PENDING, PayoutFact.NEEDS_APPROVAL)


@dataclass(frozen=True)
class PayoutComparison:
    """What was compared for one account, and what did not agree."""

    findings: list[str]
    compared: int
    in_flight: list[str]


async def compare_payouts(db: Database, account: ProviderAccount, rail: PayoutRail) -> PayoutComparison:
    """The provider is read first: what it does not list yet is in flight with us. `db` has the audit role."""
    async with db.transaction() as tx:
        begun, first = await begin(tx), await first_payout_at(tx, account)
    theirs = await _listed(rail, min(first or datetime.now(UTC), datetime.now(UTC)) - _MARGIN)
    async with db.transaction() as tx:
        ours = await sent_side(tx, account, begun)
    findings, in_flight = [], []
    for reference in sorted(theirs.keys() | ours.keys()):
        text = _disagreement(theirs.get(reference), ours.get(reference))
        if text is None:
            continue
        said = f"{account.tenant_id}/{account.mode} {account.provider} payout {reference}: {text}"
        if reference in ours and ours[reference].in_flight:
            in_flight.append(said)
        else:
            findings.append(f"A2 {said}")
    return PayoutComparison(findings, len(theirs.keys() | ours.keys()), in_flight)


async def _listed(rail: PayoutRail, since: datetime) -> dict[str, PayoutAnswer]:
    """Every transfer of the account, ours or not. A page may repeat what another showed: the first one seen stands."""
    found: dict[str, PayoutAnswer] = {}
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        page = await rail.list_transfers(since=since, cursor=cursor)
        for each in page.payouts:
            found.setdefault(each.reference or f"(no reference) {each.provider_id}", each)
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def _disagreement(theirs: PayoutAnswer | None, ours: Sent | None) -> str | None:
    """None when provider, ledger and rows agree about what was sent; else what each says."""
    sent = theirs.amount_minor or 0 if theirs is not None and theirs.fact is PayoutFact.SUCCEEDED else 0
    rows, ledger = (ours.rows, ours.ledger) if ours is not None else (0, 0)
    said = f"provider {sent} sent, ledger {ledger} sent, rows {rows} sent"
    if theirs is not None and ours is None:
        return f"orphan at the provider, unknown to us ({said})"
    if theirs is not None and theirs.fact in _UNDECIDED:
        return f"not decided at the provider ({said})"
    if rows and theirs is None:
        return f"orphan of ours, unknown to the provider ({said})"
    return None if sent == ledger == rows else said
