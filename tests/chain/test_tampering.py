"""Whoever changes the past is found and named: bytes, rows, links, and the whole chain computed anew."""

import asyncio
import json
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli.main import app
from cli.stack.postgres import EmbeddedPostgres
from models.chain import CHAINS, Chain, row_name
from models.chain_audit import Tampering
from tests.chain import books as made
from tests.chain.books import Books, chain_all

BY_TABLE = {chain.table: chain for chain in CHAINS}
KEYS = {"id", "part"}
PLACES = [(chain, column) for chain in CHAINS for column in chain.columns if column not in KEYS]


@pytest.fixture(autouse=True)
def whole(books: Books) -> Iterator[None]:
    anchors = books.anchors.path.read_bytes()
    yield
    books.put_back()
    books.anchors.path.write_bytes(anchors)


def named(findings: list[Tampering]) -> set[tuple[str, str]]:
    return {(each.table, each.row) for each in findings}


def flipped(text: str | None, kind: str, number: int, at: int) -> str:
    """The `number`-th row's value with one byte (or one bit) changed, as text that its type accepts.

    Where there was nothing there is something, each row its own: two resolutions of one hold are refused.
    """
    if text is None:
        return {"timestamp with time zone": "2030-01-01", "bigint": str(10**9 + number)}[kind]
    if kind == "boolean":
        return "false" if text == "true" else "true"
    if kind in ("bigint", "integer", "smallint"):
        return str(int(text) ^ (1 << at % 15))
    if kind == "timestamp with time zone":
        return text[:-4] + str((int(text[-4:-3]) + 1) % 10) + "+00" if "." in text else text[:-3] + ".000001+00"
    if kind == "uuid":
        place = 35 - at % 12
        return text[:place] + format(int(text[place], 16) ^ 1, "x") + text[place + 1 :]
    if kind == "ledger_phase":
        return "void" if text != "void" else "single"
    if kind == "jsonb":
        return text.replace("toy", "tox")
    place = at % len(text)
    return text[:place] + chr(ord(text[place]) ^ 64) + text[place + 1 :]


def flip(books: Books, chain: Chain, number: int, column: str, at: int) -> tuple[str, str]:
    """Change one byte of the `number`-th row's column; the row's table and name."""
    query = f"select {chain.row_id}, {chain.part.removeprefix('r.')}, {column}::text from {chain.table} order by 1, 2 offset %s"
    row_id, part, text = books.one(query + " limit 1", number)
    kind = books.one(
        "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = %s::regclass and attname = %s",
        chain.table,
        column,
    )
    books.change(chain.table, (row_id, part), column, flipped(text, kind, number, at))
    return chain.table, row_name((row_id, part), chain)


SIZES = {"ledger_accounts": 6, "ledger_transfers": 6104, "audit_log": 4000}
PLACE = st.tuples(st.sampled_from(PLACES), st.integers(0, 7_000), st.integers(0, 40))


@given(places=st.lists(PLACE, min_size=1, max_size=25, unique_by=lambda place: (place[0][0].table, place[1])))
@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_flipped_byte_is_found_and_named(books: Books, places: list[tuple[tuple[Chain, str], int, int]]) -> None:
    rows = {(chain, number % SIZES[chain.table]): (column, at) for (chain, column), number, at in places}
    try:
        done = {flip(books, chain, number, column, at) for (chain, number), (column, at) in rows.items()}
        findings = books.verify().findings
        assert named(findings) == done
        assert {each.problem for each in findings} == {"changed"}
        assert {each.scope for each in findings} == {str(books.scope)}
    finally:
        books.put_back()


def test_every_column_is_chained(books: Books) -> None:
    for chain in CHAINS:
        query = (
            "select array_agg(attname::text) from pg_attribute "
            "where attrelid = %s::regclass and attnum > 0 and not attisdropped"
        )
        assert set(books.one(query, chain.table)) == set(chain.columns)
        assert chain.columns[:2] == ("tenant_id", "mode")


def test_a_changed_number_is_a_missing_row(books: Books) -> None:
    books.do("update audit_log set id = id + 100000 where id = 78")
    books.do("update ledger_transfers set part = part + 5000 where id = 6")
    found = [(each.table, each.row, each.scope, each.problem) for each in books.verify().findings]
    mine = str(books.scope)
    assert found == [
        ("ledger_transfers", "6/1", mine, "missing row"),
        ("ledger_transfers", "6/5001", mine, "unchained"),
        ("audit_log", "78", mine, "missing row"),
    ]


LAST = {
    "ledger_accounts": "id = (select max(id) from ledger_accounts)",
    "ledger_transfers": "(id, part) = (select id, part from ledger_transfers order by 1 desc, 2 desc limit 1)",
    "audit_log": "id = (select max(id) from audit_log)",
}


def last_row(books: Books, table: str) -> str:
    part = "part" if table == "ledger_transfers" else "0"
    return row_name(
        books.one(f"select {BY_TABLE[table].row_id}, {part} from {table} where {LAST[table]}"), BY_TABLE[table]
    )


@pytest.mark.parametrize("table", LAST)
def test_a_deleted_last_row(books: Books, table: str) -> None:
    """Alone its link tells of it; together with its link, the anchor."""
    row = last_row(books, table)
    books.do(f"delete from {table} where {LAST[table]}")
    (finding,) = books.verify().findings
    assert (finding.table, finding.row, finding.scope, finding.problem) == (table, row, str(books.scope), "missing row")
    books.do(f"delete from chain_links where (chain, position) = (select chain, max(position) from chain_links "
             f"where chain = '{table}' group by chain)")  # fmt: skip
    assert books.verify(anchored=False).ok, "inside the database nothing tells of it"
    finding = books.verify().findings[0]
    assert (finding.table, finding.row, finding.scope, finding.problem) == (table, row, str(books.scope), "anchor")


def test_a_deleted_row_in_the_middle(books: Books) -> None:
    books.do("delete from audit_log where id in (500, 501, 2000)")
    findings = books.verify().findings
    assert [(each.table, each.row, each.problem) for each in findings] == [
        ("audit_log", n, "missing row") for n in ("500", "501", "2000")
    ]


def test_a_row_deleted_with_its_link(books: Books) -> None:
    (position,) = (books.one("select position from chain_links where chain = 'audit_log' and row_id = 700"),)
    books.do("delete from audit_log where id = 700")
    books.do("delete from chain_links where chain = 'audit_log' and row_id = 700")
    (finding,) = books.verify().findings
    assert finding.problem == "link" and f"{position} is missing" in finding.detail and finding.row == "701"
    books.do("update chain_links set position = position - 1 where chain = 'audit_log' and position > %s", position)
    first = books.verify().findings[0]
    assert (first.row, first.problem) == ("701", "changed"), "closing the gap does not make the hashes follow"


def test_two_rows_swapped(books: Books) -> None:
    books.do(
        "update audit_log a set actor = b.actor, action = b.action, entity = b.entity, entity_id = b.entity_id, at = b.at, "
        "request_id = b.request_id, detail = b.detail from audit_log b where (a.id, b.id) in ((10, 3000), (3000, 10))"
    )
    assert named(books.verify().findings) == {("audit_log", "10"), ("audit_log", "3000")}


FORGED = [
    ("audit_log", "id", 0),
    ("ledger_transfers", "id", -3),
    ("ledger_accounts", "id", -1),
    ("ledger_transfers", "part", 9999),
]


@pytest.mark.parametrize(("table", "column", "number"), FORGED)
def test_a_forged_row(books: Books, table: str, column: str, number: int) -> None:
    """A copy under a number nobody uses."""
    unique = {"ledger_transfers": "key", "ledger_accounts": "code"}.get(table, "")
    values = {each: each for each in BY_TABLE[table].columns} | {column: str(number)}
    if unique:
        values[unique] = f"'x' || {unique}"
    first = BY_TABLE[table].row_id
    part = "part" if table == "ledger_transfers" else "0"
    row_id, its_part = books.one(f"select {first}, {part} from {table} order by 1, 2 limit 1")
    books.do(
        f"insert into {table} ({', '.join(values)}) select {', '.join(values.values())} from {table} "
        f"where {first} = {row_id} and {part} = {its_part}"
    )
    key = (row_id, number) if column == "part" else (number, its_part)
    (finding,) = books.verify().findings
    assert (finding.table, finding.row) == (table, row_name(key, BY_TABLE[table]))
    assert (finding.problem, finding.scope) == ("unchained", str(books.scope))


def test_an_edited_link(books: Books) -> None:
    books.do(
        "update chain_links set hash = set_byte(hash, 9, get_byte(hash, 9) # 1) where chain = 'audit_log' and position = 50"
    )
    (finding,) = books.verify().findings
    assert (finding.table, finding.row, finding.problem) == (
        "audit_log",
        "50",
        "link",
    ) and "not the row" in finding.detail


def test_links_of_another_tenant_and_in_another_order(books: Books) -> None:
    books.do("update chain_links set mode = 'live' where chain = 'ledger_transfers' and position = 50")
    (finding,) = books.verify().findings
    assert finding.problem == "link" and finding.table == "ledger_transfers" and "live" in finding.detail
    books.put_back()
    books.do(
        "update chain_links a set row_id = b.row_id, hash = b.hash from chain_links b "
        "where a.chain = 'audit_log' and b.chain = 'audit_log' and (a.position, b.position) in ((50, 51), (51, 50))"
    )
    findings = books.verify().findings
    assert findings[0].row == "50" and {each.row for each in findings} <= {"50", "51", "52"}


def test_an_edited_row_with_the_chain_computed_anew(books: Books) -> None:
    """Inside the database nothing is wrong any more; the anchor knows better."""
    books.do("update ledger_transfers set amount_minor = amount_minor + 1 where id = 1000")
    books.do("delete from chain_links")
    asyncio.run(chain_all(books.owner_url, None))
    assert books.verify(anchored=False).ok
    (finding,) = books.verify().findings
    assert finding.table == "ledger_transfers" and finding.problem == "anchor" and "computed anew" in finding.detail
    asyncio.run(chain_all(books.owner_url, books.anchors))
    assert len(books.verify().findings) == 1, "an anchor of the new chain does not excuse it"


def test_a_chain_cut_off_and_grown_again(books: Books) -> None:
    books.do("delete from audit_log where id > 3990")
    books.do("delete from chain_links where chain = 'audit_log' and row_id > 3990")
    (finding,) = books.verify().findings
    assert (finding.row, finding.problem) == ("4000", "anchor") and "ends at link 3990" in finding.detail
    asyncio.run(chain_all(books.owner_url, books.anchors))  # anchors the shorter chain
    assert ["links were anchored, then" in each.detail for each in books.verify().findings] == [True, False]
    books.do(made.AUDIT_ROWS, books.scope.tenant_id, 30)
    assert asyncio.run(chain_all(books.owner_url, books.anchors)) == 30
    findings = books.verify().findings
    assert {(each.table, each.row, each.problem) for each in findings} == {("audit_log", "4000", "anchor")}


def test_the_anchor_file_itself(books: Books) -> None:
    path, whole = books.anchors.path, books.anchors.path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    assert books.verify().ok, "a line that a crash cut short was never an anchor"
    asyncio.run(chain_all(books.owner_url, books.anchors))
    assert path.read_bytes() == whole and books.verify().anchors == 3, "the same tails are not written again"
    path.write_bytes(whole + whole)
    assert books.verify().anchors == 3, "the same tails again are compared once"
    path.write_bytes(b"garbage\n" + whole)
    assert "line 1 is no anchor" in books.verify().findings[0].detail
    path.unlink()
    assert {each.detail for each in books.verify().findings} == {"the chain has links, but was never anchored"}


def test_the_command(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    values = made.settings(books.owner_url, books.anchors.path)
    monkeypatch.setenv("CHAMA_DATABASE_URL", values.database_url)
    monkeypatch.setenv("CHAMA_DATABASE_ROLE_PASSWORD", values.database_role_password.get_secret_value())
    monkeypatch.setenv("CHAMA_ANCHOR_FILE", values.anchor_file)
    done = CliRunner().invoke(app, ["audit", "verify"])
    assert done.exit_code == 0 and "Nothing was changed." in done.output and "4000 rows verified" in done.output
    books.do("update audit_log set actor = 'nobody' where id = 123")
    done = CliRunner().invoke(app, ["audit", "verify"])
    assert done.exit_code == 1 and "F6 audit_log 123 of" in done.output and "the past was changed" in done.output
    done = CliRunner().invoke(app, ["audit", "verify", "--json"])
    report = json.loads(done.output)
    assert done.exit_code == 1 and report["ok"] is False and report["chains"]["audit_log"]["verified"] == 4000
    assert [(each["table"], each["row"], each["problem"]) for each in report["findings"]] == [
        ("audit_log", "123", "changed")
    ]


@pytest.mark.parametrize("change", ["update {} set tenant_id = tenant_id", "delete from {}", "truncate {}"])
def test_the_triggers_keep_the_links_even_from_a_superuser(
    books: Books, postgres: EmbeddedPostgres, owner_url: str, change: str
) -> None:
    with (
        psycopg.connect(postgres.url(owner_url.rpartition("/")[2])) as plain,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        plain.execute(change.format("chain_links"))
