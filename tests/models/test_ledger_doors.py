"""The door for one posting and the door for many do the same, whatever accounts they meet."""

import itertools
from datetime import UTC, datetime

import psycopg
import pytest

from contracts.base import Scope
from domain.accounts import AccountKind, AccountSpec, InsufficientFunds, Leg, Phase, Posting
from infra.database import Database
from models import ledger
from tests.fixtures.postgres import as_owner

DAY = datetime(2030, 1, 1, tzinfo=UTC)
PURSE = 100
"""What each account has before, seen from its normal side."""
SPECS = list(itertools.product((AccountKind.ASSET, AccountKind.LIABILITY), (True, False), (1, 16)))
"""Kind, bounded, stripes."""
Figures = list[tuple[int, int, int, int]] | str


def account(name: str, kind: AccountKind, bounded: bool, stripes: int) -> AccountSpec:
    return AccountSpec(f"pot:{name}-{kind}-{int(bounded)}-{stripes}:NGN", "NGN", kind, bounded, stripes)


def filled(spec: AccountSpec) -> Posting:
    """What the account begins with."""
    other = AccountSpec("pot:rest:NGN", "NGN", AccountKind.SUSPENSE, bounded=False)
    minor = PURSE if spec.kind.debit_normal else -PURSE
    return Posting(f"fill/{spec.code}", "filled", Phase.SINGLE, DAY, (Leg(spec, minor), Leg(other, -minor)))


async def outcome(database: Database, scope: Scope, posting: Posting, door: str) -> Figures:
    """Both balances after it, or that it was refused."""
    try:
        async with database.transaction(scope) as tx:
            await (ledger.post(tx, posting) if door == "one" else ledger.post_many(tx, (posting,)))
    except InsufficientFunds:
        return "refused"
    async with database.transaction(scope) as tx:
        found = [await ledger.balance(tx, leg.account.code) for leg in posting.legs]
    return [(b.posted_minor, b.pending_in_minor, b.pending_out_minor, b.available_minor) for b in found]


@pytest.mark.parametrize("phase", [Phase.SINGLE, Phase.PENDING])
@pytest.mark.parametrize("minor", [PURSE, PURSE + 1])
async def test_both_doors_do_the_same(database: Database, scope: Scope, phase: Phase, minor: int) -> None:
    """Debit and credit of every kind: what lowers a bounded account by more than it has is refused, and nothing else."""
    for case, (debit, credit) in enumerate(itertools.product(SPECS, SPECS)):
        ended: dict[str, Figures] = {}
        for door in ("one", "many"):
            name = f"{door}-{phase}-{minor}-{case}"
            to, out_of = account(f"{name}-d", *debit), account(f"{name}-c", *credit)
            async with database.transaction(scope) as tx:
                await ledger.post_many(tx, [filled(to), filled(out_of)])
            posting = Posting(name, "moved", phase, DAY, (Leg(to, minor), Leg(out_of, -minor)))
            ended[door] = await outcome(database, scope, posting, door)
        (debit_kind, debit_bounded, _), (credit_kind, credit_bounded, _) = debit, credit
        lowers = (debit_bounded and not debit_kind.debit_normal) or (credit_bounded and credit_kind.debit_normal)
        assert (ended["one"] == "refused") == (lowers and minor > PURSE), (debit, credit)
        assert ended["one"] == ended["many"], (debit, credit)


@pytest.mark.parametrize("lost", ["lower", "upper"])
async def test_no_money_moves_that_no_balance_counts(
    database: Database, scope: Scope, owner_url: str, lost: str
) -> None:
    """The journal and the cached balances move together or not at all: a stripe that is lost is not passed over."""
    debit, credit = (account(f"{lost}-{name}", AccountKind.LIABILITY, False, 1) for name in ("lower", "upper"))
    async with database.transaction(scope) as tx:
        await ledger.post_many(tx, [filled(debit), filled(credit)])
    with as_owner(owner_url) as owner:
        owner.execute("alter table ledger_balances disable trigger user")
        owner.execute(
            "delete from ledger_balances b using ledger_accounts a where a.id = b.account_id and a.code = %s",
            (debit.code if lost == "lower" else credit.code,),
        )
        owner.execute("alter table ledger_balances enable trigger user")
    for key, minor in (("there", 1), ("back", -1)):
        posting = Posting(f"{lost}-{key}", "moved", Phase.SINGLE, DAY, (Leg(debit, minor), Leg(credit, -minor)))
        async with database.transaction(scope) as tx:
            with pytest.raises(psycopg.errors.RaiseException, match="accounts have a balance"):
                await ledger.post(tx, posting)
