"""What a plain outcome does to a whole chunk of pledges: the money, the rows, the story and the message of `payment_facts`
and `refund_steps`, in the same words and under the same keys, set by set.

Everything happens in the caller's transaction, in the order of its locks: payments and investments are the caller's, then
come the ledger's accounts, and the campaign's counters last, for they are everybody's.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from contracts.base import Scope
from contracts.ids import attempt_key
from domain import accounts
from domain.investment import INVESTMENT, Bucket, InvestmentStatus
from domain.money import Money
from domain.payment import CAMPAIGN_FAILED, WALLET
from infra.database import Tx
from models import bulk_settlement as rows
from models import ledger, timeline
from models.base import move_many
from models.bulk_settlement import Piece, Return
from models.campaign import Campaign, shift
from models.investment import Investment
from models.notification import notify_many

_I = InvestmentStatus
_Told = list[tuple[str, str, dict[str, Any]]]


class BulkBook:
    """One transaction's work on one campaign's pledges. `notices`: the subject under which messages are queued.

    Call `count` last.
    """

    def __init__(self, tx: Tx, scope: Scope, campaign: Campaign, notices: str, as_of: datetime) -> None:
        self._tx, self._scope, self._campaign, self._notices, self._as_of = tx, scope, campaign, notices, as_of
        self._moved: Counter[tuple[Bucket, Bucket | None]] = Counter()

    async def take(self, pieces: Sequence[Piece]) -> None:
        """The held money is the campaign's. Raises a DomainError of the ledger: then nothing of the chunk may commit."""
        await ledger.post_many(
            self._tx,
            [
                accounts.payment_captured(_key(each, "capture"), hold=_key(each, "hold"), as_of=self._as_of)
                for each in pieces
            ],
        )
        await rows.take(self._tx, pieces)
        await self._move(pieces, _I.CAPTURED, Bucket.HELD, Bucket.CAPTURED, "payment_succeeded", {})
        await self._notify("receipt", [(each, each.payment_id) for each in pieces], "")

    async def release(self, pieces: Sequence[Piece]) -> None:
        """The held money is the payers' again. Raises as `take`."""
        await ledger.post_many(
            self._tx,
            [
                accounts.authorization_voided(_key(each, "void"), hold=_key(each, "hold"), as_of=self._as_of)
                for each in pieces
            ],
        )
        await rows.release(self._tx, pieces)
        await self._move(pieces, _I.CANCELED, Bucket.HELD, None, "payment_canceled", {"code": "voided"})
        await self._notify("payment_canceled", [(each, each.payment_id) for each in pieces], "voided")

    async def begin_refunds(self, returns: Sequence[Return]) -> None:
        """Reserve the refunds of captured pledges before anybody is asked. Raises as `take`."""
        currency = self._campaign.currency
        escrow = accounts.escrow(self._campaign.id, currency)
        await ledger.post_many(self._tx, [self._hold(each, escrow) for each in returns])
        await rows.request_refunds(
            self._tx, self._scope, returns, reason=CAMPAIGN_FAILED, source_account=escrow.code, as_of=self._as_of
        )
        told: _Told = []
        for each in returns:
            detail = {
                "refund_id": each.refund_id, "reason": CAMPAIGN_FAILED, "amount_minor": each.piece.attempt.captured_minor,
            }  # fmt: skip
            told += [(each.piece.payment_id, "refund_requested", detail)]
            told += [(each.piece.investment_id, "refund_requested", detail)]
            told += [(each.piece.investment_id, f"investment_{_I.REFUNDING}", {})]
        await timeline.record_many(self._tx, self._scope, told, self._as_of)
        pledges = [each.piece.investment_id for each in returns]
        await move_many(self._tx, Investment, INVESTMENT, pledges, _I.REFUNDING)
        self._moved[Bucket.CAPTURED, None] += sum(each.piece.amount_minor for each in returns)

    def _hold(self, back: Return, escrow: accounts.AccountSpec) -> accounts.Posting:
        key = f"refund/{back.refund_id}/hold"
        amount = Money(back.piece.attempt.captured_minor, back.piece.currency)
        if back.provider == WALLET:
            return accounts.pledge_returned(
                key, user_id=back.piece.payer_id, source=escrow, amount=amount, as_of=self._as_of
            )
        return accounts.refund_requested(key, source=escrow, provider=back.provider, amount=amount, as_of=self._as_of)

    async def end_refunds(self, returns: Sequence[Return], provider_ids: Sequence[str | None]) -> None:
        """The money has gone back, under the provider's ids of the refunds. Raises as `take`."""
        await ledger.post_many(
            self._tx,
            [
                accounts.refund_succeeded(
                    f"refund/{each.refund_id}/post", hold=f"refund/{each.refund_id}/hold", as_of=self._as_of
                )
                for each in returns
            ],
        )
        await rows.refund(self._tx, returns, provider_ids)
        for credited in (False, True):
            some = [each for each in returns if each.credited is credited]
            if not some:
                continue
            target = _I.CREDITED_TO_WALLET if credited else _I.REFUNDED
            await move_many(self._tx, Investment, INVESTMENT, [each.piece.investment_id for each in some], target)
            told: _Told = []
            for each in some:
                detail = {"refund_id": each.refund_id, "amount_minor": each.piece.attempt.captured_minor}
                told += [(each.piece.payment_id, "refund_succeeded", detail)]
                told += [(each.piece.investment_id, "refund_succeeded", detail)]
                told += [(each.piece.investment_id, f"investment_{target}", {})]
            await timeline.record_many(self._tx, self._scope, told, self._as_of)
            template = "refund_credited" if credited else "refund_sent"
            await self._notify(template, [(each.piece, each.refund_id) for each in some], "")

    async def count(self) -> None:
        """Move the campaign's counters by all that was done, and be done: nobody else's lock is waited for after this one."""
        for (source, target), minor in self._moved.items():
            await shift(self._tx, self._campaign.id, minor, source, target)
        self._moved.clear()

    async def _move(
        self,
        pieces: Sequence[Piece],
        status: InvestmentStatus,
        source: Bucket,
        target: Bucket | None,
        event: str,
        detail: dict[str, Any],
    ) -> None:
        await move_many(self._tx, Investment, INVESTMENT, [each.investment_id for each in pieces], status)
        told: _Told = []
        for each in pieces:
            told += [(each.payment_id, event, detail), (each.investment_id, event, detail)]
            told += [(each.investment_id, f"investment_{status}", {})]
        await timeline.record_many(self._tx, self._scope, told, self._as_of)
        self._moved[source, target] += sum(each.amount_minor for each in pieces)

    async def _notify(self, template: str, pieces: Sequence[tuple[Piece, str]], code: str) -> None:
        messages = [
            (
                each.payer_id,
                once,
                {
                    "amount_minor": each.attempt.amount_minor,
                    "currency": each.currency,
                    "payment_id": each.payment_id,
                    "purpose": "investment",
                    "campaign": self._campaign.title,
                    "code": code,
                },
            )
            for each, once in pieces
        ]
        await notify_many(
            self._tx, self._scope, subject_id=self._notices, template=template, messages=messages, as_of=self._as_of
        )


def _key(piece: Piece, step: str) -> str:
    """The ledger key of one step of the piece's attempt: the auditor joins ledger and attempts by it."""
    return attempt_key(piece.attempt.reference, step)
