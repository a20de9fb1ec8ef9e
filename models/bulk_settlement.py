"""A chunk of a settlement's lines with everything they touch, read under lock, and changed in one statement a table.

The single path (`models/payment.py`, `models/investment.py`) does the same to one line at a time. Every change here names the
states it starts from and counts its rows: a chunk that is not what it was read as is rolled back as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

from contracts.base import Scope
from domain.investment import InvestmentStatus, RefundTo
from domain.money import Money
from domain.payment import WALLET, AttemptStatus, PaymentStatus
from infra.database import Tx
from models.base import check_all


@dataclass(frozen=True)
class Attempt:
    """One attempt of a line's payment, amounts in minor units."""

    reference: str
    provider: str
    provider_id: str | None
    status: AttemptStatus
    held: bool
    amount_minor: int
    captured_minor: int
    refunded_minor: int


@dataclass(frozen=True)
class Piece:
    """A line as it stands, its payment and its investment locked. Amounts in minor units of `currency`.

    `refunds`: how many refunds of its payment there are, whatever became of them; `refund`: that there is one just requested.
    """

    line_no: int
    action: str
    investment_id: str
    payment_id: str
    payer_id: str
    provider: str
    amount_minor: int
    captured_minor: int
    refunded_minor: int
    currency: str
    capture: str
    status: PaymentStatus
    cancel_reason: str | None
    blocked_reason: str | None
    pledge: InvestmentStatus
    charged_back: bool
    refund_to: RefundTo
    attempts: tuple[Attempt, ...]
    refunds: int

    @property
    def amount(self) -> Money:
        """What was asked."""
        return Money(self.amount_minor, self.currency)

    @property
    def attempt(self) -> Attempt:
        """The attempt that stands for the payment: it holds its money, or brought it. Raises StopIteration without any."""
        return next(each for each in self.attempts if each.held or each.captured_minor)

    @property
    def refund_to_wallet(self) -> bool:
        """Whether a refund goes into the wallet although the money came from elsewhere."""
        return self.refund_to is RefundTo.WALLET and self.provider != WALLET

    @property
    def inside(self) -> bool:
        """Whether nobody outside is to be asked: the money is in the ledger, or goes into a wallet."""
        return self.provider == WALLET or (self.action == "refund" and self.refund_to_wallet)


# Locked in the order of `models.payment.get_payment`.
_LINES: Final[LiteralString] = """
select l.line_no, l.action, l.investment_id, p.id as payment_id, p.payer_id, p.provider, p.amount_minor, p.captured_minor,
       p.refunded_minor, p.currency, p.capture, p.status, p.cancel_reason, p.blocked_reason
  from settlement_lines l join payments p on (p.tenant_id, p.mode, p.id) = (l.tenant_id, l.mode, l.payment_id)
 where l.settlement_id = %s and l.line_no = any(%s) and l.status = 'queued' and p.purpose = 'investment'
 order by p.id for update of p
"""
_PLEDGES: Final[LiteralString] = """
select id, status as pledge, charged_back_at is not null as charged_back, refund_to
  from investments where id = any(%s) order by id for update
"""
_ATTEMPTS: Final[LiteralString] = """
select payment_id, reference, provider, provider_id, status, held, amount_minor, captured_minor, refunded_minor
  from payment_attempts where payment_id = any(%s) order by payment_id, ordinal
"""
_REFUNDS: Final[LiteralString] = (
    "select payment_id, count(*)::int as n from refunds where payment_id = any(%s) group by 1"
)


async def lock_pieces(tx: Tx, settlement_id: str, numbers: Sequence[int]) -> list[Piece]:
    """The queued ones of these lines, in the order of their numbers."""
    lines = await (await tx.execute(_LINES, (settlement_id, list(numbers)))).fetchall()
    pledges = await (await tx.execute(_PLEDGES, ([each["investment_id"] for each in lines],))).fetchall()
    payments = [each["payment_id"] for each in lines]
    attempts: dict[str, list[Attempt]] = {each: [] for each in payments}
    for row in await (await tx.execute(_ATTEMPTS, (payments,))).fetchall():
        attempts[row.pop("payment_id")].append(Attempt(**row | {"status": AttemptStatus(row["status"])}))
    refunds = {row["payment_id"]: row["n"] for row in await (await tx.execute(_REFUNDS, (payments,))).fetchall()}
    by_id = {row["id"]: row for row in pledges}
    pieces = [
        Piece(
            **line
            | {
                "status": PaymentStatus(line["status"]),
                "pledge": InvestmentStatus(by_id[line["investment_id"]]["pledge"]),
                "charged_back": by_id[line["investment_id"]]["charged_back"],
                "refund_to": RefundTo(by_id[line["investment_id"]]["refund_to"]),
                "attempts": tuple(attempts[line["payment_id"]]),
                "refunds": refunds.get(line["payment_id"], 0),
            }
        )
        for line in lines
        if line["investment_id"] in by_id
    ]
    return sorted(pieces, key=lambda each: each.line_no)


_TAKEN: Final[tuple[LiteralString, LiteralString]] = (
    """update payment_attempts set status = 'captured', held = false, captured_minor = amount_minor,
              reported_minor = amount_minor, updated_at = now()
        where reference = any(%s) and status = 'authorized' and held""",
    """update payments set status = 'succeeded', captured_minor = amount_minor, next_action_at = null, checks = 0,
              updated_at = now()
        where id = any(%s) and status = 'requires_capture'""",
)
_RELEASED: Final[tuple[LiteralString, LiteralString]] = (
    """update payment_attempts set status = 'voided', held = false, updated_at = now()
        where reference = any(%s) and status = 'authorized' and held""",
    """update payments set status = 'canceled', error_code = 'voided', next_action_at = null, checks = 0, updated_at = now()
        where id = any(%s) and status = 'requires_capture'""",
)


async def take(tx: Tx, pieces: Sequence[Piece]) -> None:
    """Attempts and payments of held pieces are captured, in full. Raises RuntimeError for one that is not held."""
    await _both(tx, _TAKEN, pieces)


async def release(tx: Tx, pieces: Sequence[Piece]) -> None:
    """Attempts and payments of held pieces are given up. Raises RuntimeError for one that is not held."""
    await _both(tx, _RELEASED, pieces)


async def _both(tx: Tx, statements: tuple[LiteralString, LiteralString], pieces: Sequence[Piece]) -> None:
    for statement, ids in zip(
        statements, ([each.attempt.reference for each in pieces], [each.payment_id for each in pieces]), strict=True
    ):
        check_all((await tx.execute(statement, (ids,))).rowcount, pieces, "held payments")


_REQUEST: Final[LiteralString] = """
insert into refunds (tenant_id, mode, id, payment_id, attempt_reference, provider, amount_minor, currency, reason, source_account,
                     status, created_at)
select %(tenant)s, %(mode)s, r.id, r.payment_id, r.reference, r.provider, r.minor, %(currency)s, %(reason)s, %(source)s,
       'requested', %(as_of)s
  from unnest(%(ids)s::text[], %(payments)s::text[], %(references)s::text[], %(providers)s::text[], %(minors)s::bigint[])
       as r(id, payment_id, reference, provider, minor)
"""


@dataclass(frozen=True)
class Return:
    """A piece whose money is given back: the refund's id, and the provider it goes through (the wallet for a credit)."""

    piece: Piece
    refund_id: str
    provider: str

    @property
    def credited(self) -> bool:
        """Whether it goes into the wallet although it came from elsewhere."""
        return self.provider == WALLET != self.piece.provider


async def request_refunds(
    tx: Tx, scope: Scope, returns: Sequence[Return], *, reason: str, source_account: str, as_of: datetime
) -> None:
    """The refunds' rows, requested; all of one currency and out of one account."""
    values: dict[str, Any] = {
        "tenant": scope.tenant_id, "mode": str(scope.mode), "reason": reason, "source": source_account, "as_of": as_of,
        "currency": returns[0].piece.currency, "ids": [each.refund_id for each in returns],
        "payments": [each.piece.payment_id for each in returns], "providers": [each.provider for each in returns],
        "references": [each.piece.attempt.reference for each in returns],
        "minors": [each.piece.attempt.captured_minor for each in returns],
    }  # fmt: skip
    await tx.execute(_REQUEST, values)


async def requested(tx: Tx, refund_ids: Sequence[str]) -> set[str]:
    """Those of these refunds that are requested and nothing more, held until the transaction ends."""
    rows = await (
        await tx.execute(
            "select id from refunds where id = any(%s) and status = 'requested' order by id for update",
            (list(refund_ids),),
        )
    ).fetchall()
    return {row["id"] for row in rows}


async def refund(tx: Tx, returns: Sequence[Return], provider_ids: Sequence[str | None]) -> None:
    """The requested refunds have succeeded, in full: refunds, attempts and payments. Raises RuntimeError otherwise."""
    done = await tx.execute(
        """update refunds r set status = 'succeeded', provider_id = n.provider_id, next_action_at = null, updated_at = now()
             from unnest(%s::text[], %s::text[]) as n(id, provider_id) where r.id = n.id and r.status = 'requested'""",
        ([each.refund_id for each in returns], list(provider_ids)),
    )
    check_all(done.rowcount, returns, "requested refunds")
    back = [each for each in returns if not each.credited]
    if back:
        done = await tx.execute(
            """update payment_attempts set refunded_minor = captured_minor, updated_at = now()
                where reference = any(%s) and refunded_minor = 0""",
            ([each.piece.attempt.reference for each in back],),
        )
        check_all(done.rowcount, back, "captured attempts")
    done = await tx.execute(
        """update payments set refunded_minor = captured_minor, updated_at = now()
            where id = any(%s) and status = 'succeeded' and refunded_minor = 0""",
        ([each.piece.payment_id for each in returns],),
    )
    check_all(done.rowcount, returns, "captured payments")
