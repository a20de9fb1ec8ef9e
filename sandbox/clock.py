"""Business time: authorizations lapse, slow money settles, checkouts are abandoned, transfers are returned.

Refunds complete and transfers are sent by themselves in real time.

An account without a clock of its own follows real time. Once set, its clock stands still until it is set again, and
everything that came due on the way happens in order, each thing at its own time.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from sandbox import paystack_states, stripe_states
from sandbox.book import Book, Tx
from sandbox.records import Account, Payment, Provider, find_account, payments_due, refunds_ready
from sandbox.transfers import Transfer, transfers_due, transfers_ready

logger = logging.getLogger("sandbox.clock")
PROVIDERS: dict[str, Provider] = {"stripe": stripe_states.PROVIDER, "paystack": paystack_states.PROVIDER}
TICK_SECONDS = 0.25


def catch_up(tx: Tx, account: Account) -> int:
    """Let everything happen that is due by the account's business time; how many things happened."""
    done, provider = 0, PROVIDERS[account.provider]
    while due := _due(tx, account, provider):
        for each in due:  # each one moves its own `due` on, so the loop ends
            if isinstance(each, Payment):
                provider.advance(tx, account, each, each.due or 0)
            elif provider.transfers is not None:
                provider.transfers.advance(tx, account, each, each.due or 0)
        done += len(due)
    return done


def _due(tx: Tx, account: Account, provider: Provider) -> list[Payment | Transfer]:
    """What is due by the account's business time, in the order in which it came."""
    found: list[Payment | Transfer] = [*payments_due(tx, account.secret_key, account.now())]
    if provider.transfers is not None:
        found += transfers_due(tx, account.secret_key, account.now())
    return sorted(found, key=lambda each: each.due or 0)


def set_clock(tx: Tx, account: Account, now: int) -> Account:
    """Move the account's clock. Raises ValueError when that would be backwards.

    The first setting may lie before real time, as long as nothing in the account is newer.
    """
    sql = (
        "select max(at) as at from (select max(created) as at from payments where account = ?1"
        " union all select max(created) from transfers where account = ?1)"
    )
    newest = tx.row(sql, account.secret_key)
    floor = account.clock if account.clock is not None else (newest["at"] if newest else None)
    if floor is not None and now < floor:
        raise ValueError("the clock does not run backwards")
    tx.run("update accounts set clock = ? where secret_key = ?", now, account.secret_key)
    moved = find_account(tx, account.secret_key)
    assert moved is not None
    catch_up(tx, moved)
    return moved


def tick(tx: Tx) -> int:
    """One round for all accounts; how many things happened."""
    done = 0
    for refund in refunds_ready(tx, time.time()):
        account = find_account(tx, refund.account)
        assert account is not None
        PROVIDERS[account.provider].finish_refund(tx, account, refund, not refund.doc.get("will_fail"))
        done += 1
    for transfer in transfers_ready(tx, time.time()):
        account = find_account(tx, transfer.account)
        assert account is not None
        life = PROVIDERS[account.provider].transfers
        assert life is not None
        life.send(tx, account, transfer)
        done += 1
    # An account with its own clock catches up when the clock is set; only real time passes unasked.
    sql = (
        "select secret_key from accounts a where clock is null and (exists (select 1 from payments p"
        " where p.account = a.secret_key and p.due is not null and p.due <= ?1) or exists (select 1 from transfers t"
        " where t.account = a.secret_key and t.due is not null and t.due <= ?1))"
    )
    for row in tx.rows(sql, int(time.time())):
        account = find_account(tx, row["secret_key"])
        assert account is not None
        done += catch_up(tx, account)
    return done


async def tick_for_ever(book: Book, wake: Callable[[], None]) -> None:
    """Tick until cancelled; `wake` is called when something happened, since it may have left webhooks to send."""
    while True:
        await asyncio.sleep(TICK_SECONDS)
        try:
            if await book.run(tick):
                wake()
        except Exception:
            logger.exception("tick failed")
