"""docs/distributions.md tells the truth: its example runs, and its SQL on a real Postgres gives what the domain gives."""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from domain.allocation import split
from domain.distribution import DistributionTerms, Holding, Line, ShareRule, calculate
from domain.money import MAX_AMOUNT, Rounding, portion
from models import distribution_lines

PAGE = Path(__file__).parent.parent.parent / "docs" / "distributions.md"
BLOCKS = re.findall(r"```(python|sql)\n(.*?)```", PAGE.read_text(), re.DOTALL)
PORTION, SPLIT, LINES = (text for language, text in BLOCKS if language == "sql")
START, END = date(2027, 1, 1), date(2027, 3, 31)
TABLES = """
    create temp table pot (minor numeric);
    create temp table weights (id text, weight numeric);
    create temp table terms (
        declared_profit_minor bigint, profit_share_bps int, share_rounding text, rule text, period_start date, period_end date,
        record_date date, zone text, tax_bps int, tax_rounding text, platform_fee_bps int, platform_fee_rounding text,
        provider_fee_minor bigint, minimum_payout_minor bigint
    );
    create temp table holdings (holder_id text, amount_minor bigint, since timestamptz, until timestamptz);
    create temp table earlier (holder_id text, carried_in_minor bigint, adjustment_minor bigint)
"""

Connection = psycopg.Connection[tuple]


@pytest.fixture
def connection(owner_url: str) -> Iterator[Connection]:
    """One transaction with the page's function and its tables, rolled back."""
    with psycopg.connect(owner_url) as connection:
        connection.execute(TABLES)
        connection.execute(PORTION)
        yield connection
        connection.rollback()


def fill(connection: Connection, table: str, rows: Sequence[Sequence[object]]) -> None:
    connection.execute(f"truncate {table}")
    with connection.cursor().copy(f"copy {table} from stdin") as copy:
        for row in rows:
            copy.write_row(row)


def test_the_process_runs_what_the_page_says() -> None:
    assert LINES.strip() == distribution_lines.LINES.strip()
    migration = (PAGE.parent.parent / "migrations" / "sql" / "distributions.sql").read_text()
    assert PORTION.replace("or replace ", "").strip() in migration


def test_the_example_runs() -> None:
    [example] = (text for language, text in BLOCKS if language == "python")
    exec(compile(example, str(PAGE), "exec"), {})


def test_a_portion(connection: Connection) -> None:
    draw = random.Random(4)
    cases = [(draw.choice((draw.randrange(50), draw.randrange(MAX_AMOUNT))), draw.choice((5_000, draw.randrange(10_001))))
             for _ in range(500)]  # fmt: skip
    for rounding in Rounding:
        found = connection.execute(
            "select portion(amount, bps, %s) from unnest(%s::numeric[], %s::numeric[]) as c(amount, bps)",
            (rounding, [amount for amount, _ in cases], [bps for _, bps in cases]),
        ).fetchall()
        assert [int(each) for (each,) in found] == [portion(*case, rounding) for case in cases]


def in_sql(connection: Connection, pot: int, weights: Mapping[str, int]) -> dict[str, int]:
    fill(connection, "pot", [(pot,)])
    fill(connection, "weights", list(weights.items()))
    return {each: int(share) for each, share in connection.execute(SPLIT).fetchall()}


def test_a_split(connection: Connection) -> None:
    """Ties in plenty, pots above and below zero, ids that a locale would sort otherwise, products beyond 64 bits."""
    draw = random.Random(17)
    for _ in range(60):
        ids = {"".join(draw.choices("abBZz09_-é", k=4)) for _ in range(draw.randrange(1, 40))}
        most = draw.choice((1, 3, 10**15))
        weights = {each: draw.randint(0, most) for each in ids} | {"last": 1}
        pot = draw.choice((0, draw.randint(-50, 50), draw.randint(-MAX_AMOUNT, MAX_AMOUNT)))
        assert in_sql(connection, pot, weights) == split(pot, weights)


def random_run(
    draw: random.Random, holders: int
) -> tuple[DistributionTerms, list[Holding], dict[str, int], dict[str, int]]:
    """Terms, holdings around the period's and the record date's midnights, and what is brought along."""
    midnight = datetime(2027, 1, 1, tzinfo=UTC)
    ids = [f"{draw.choice('aBz_')}{n}" for n in range(holders)]
    instants = [midnight + timedelta(days=draw.randint(-20, 110), minutes=draw.randrange(1440)) for _ in range(500)]
    tax = draw.choice((0, draw.randrange(5_000)))
    terms = DistributionTerms(
        currency="NGN",
        declared_profit_minor=draw.choice((draw.randint(1, 5_000), draw.randint(1, 10**13))),
        profit_share_bps=draw.choice((10_000, draw.randint(1, 10_000))),
        share_rounding=draw.choice(list(Rounding)),
        rule=draw.choice(list(ShareRule)),
        period_start=START,
        period_end=END,
        record_date=END + timedelta(days=draw.choice((0, 0, -30, 12))),
        zone=draw.choice(("Africa/Lagos", "America/New_York", "Asia/Kolkata", "Pacific/Auckland")),
        tax_bps=tax,
        tax_rounding=draw.choice(list(Rounding)),
        platform_fee_bps=draw.randrange(5_000),
        platform_fee_rounding=draw.choice(list(Rounding)),
        provider_fee_minor=draw.choice((0, 25)),
        minimum_payout_minor=draw.choice((0, 100, 10**6)),
    )
    holdings = [
        Holding(each, draw.choice((draw.randint(1, 3), draw.randint(1, 10**12))), draw.choice(instants),
                draw.choice((None, None, draw.choice(instants))))
        for each in (ids if holders > 1_000 else draw.choices(ids, k=2 * holders))
    ]  # fmt: skip
    holdings.append(Holding("always", 1, midnight - timedelta(days=9)))
    brought = [
        {each: draw.randint(-5_000, 5_000) for each in draw.sample(ids, len(ids) // 3)} | {"gone": 7} for _ in range(2)
    ]
    return terms, holdings, *brought


def lines_in_sql(
    connection: Connection,
    terms: DistributionTerms,
    holdings: list[Holding],
    carried: dict[str, int],
    adjusted: dict[str, int],
) -> list[tuple]:
    columns = [name.strip().split()[0] for name in re.findall(r"terms \((.*?)\)", TABLES, re.DOTALL)[0].split(",")]
    fill(connection, "terms", [[asdict(terms)[name] for name in columns]])
    fill(connection, "holdings", [(each.holder_id, each.amount_minor, each.since, each.until) for each in holdings])
    earlier = [(each, carried.get(each, 0), adjusted.get(each, 0)) for each in sorted({*carried, *adjusted})]
    fill(connection, "earlier", earlier)
    return [(row[0], *(int(figure) for figure in row[1:])) for row in connection.execute(LINES).fetchall()]


def lines_in_python(
    terms: DistributionTerms, holdings: list[Holding], carried: dict[str, int], adjusted: dict[str, int]
) -> list[tuple]:
    found = calculate(terms, holdings, carried_in=carried, adjustments=adjusted)
    return [tuple(getattr(line, field.name) for field in fields(Line)) for line in found.lines]


def test_the_lines_of_a_run(connection: Connection) -> None:
    draw = random.Random(23)
    paid = carried = 0
    for _ in range(80):
        run = random_run(draw, draw.randint(1, 25))
        expected = lines_in_python(*run)
        assert lines_in_sql(connection, *run) == expected
        paid += sum(1 for line in expected if line[5])
        carried += sum(1 for line in expected if line[-1])
    assert paid > 100 and carried > 100, "both kinds of lines were compared"


@pytest.mark.parametrize(("profit", "paid"), [(24, 0), (25, 0), (26, 1)])
def test_a_line_of_which_a_fee_leaves_nothing(connection: Connection, profit: int, paid: int) -> None:
    terms, *_ = random_run(random.Random(0), 1)
    flat = replace(
        terms, declared_profit_minor=profit, profit_share_bps=10_000, tax_bps=0, platform_fee_bps=0, provider_fee_minor=25,
        minimum_payout_minor=0, rule=ShareRule.BY_AMOUNT,
    )  # fmt: skip
    run = (flat, [Holding("a", 1, datetime(2027, 1, 2, tzinfo=UTC))], {}, {})
    assert (
        lines_in_sql(connection, *run)
        == lines_in_python(*run)
        == [("a", 1, profit, 0, 0, profit * paid, 0, 0, 25 * paid, paid, profit * (1 - paid))]
    )


def test_the_lines_of_a_hundred_thousand_holders(connection: Connection) -> None:
    run = random_run(random.Random(41), 100_000)
    expected = lines_in_python(*run)
    assert len(expected) > 60_000
    assert lines_in_sql(connection, *run) == expected
