"""The documented bytes of a row and its hash, put together here by hand."""

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from domain.chain import Linker

LINKER = Linker("toys", ("id", "name", "note"))


def test_the_hash_is_the_documented_one() -> None:
    start = sha256(b"chama chain 1\ntoys").digest()
    first = sha256(start + b"id=1:7\nname=5:Zo\xc3\xab!\n").digest()
    second = sha256(first + b"id=1:8\nname=0:\nnote=1:x\n").digest()
    assert list(LINKER.follow_all(LINKER.start, [("7", "Zoë!", None), ("8", "", "x")])) == [first, second]


TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("=:\n1"), max_size=6)
ROW = st.tuples(TEXT, TEXT, TEXT)


@given(one=ROW, other=ROW)
def test_two_rows_never_look_alike(one: tuple[str | None, ...], other: tuple[str | None, ...]) -> None:
    """Whatever stands in the columns: line feeds, other columns' names, nothing."""
    assert (LINKER.follow(LINKER.start, one) == LINKER.follow(LINKER.start, other)) == (one == other)


def test_the_same_row_in_another_table_has_another_hash() -> None:
    row = ("1", "2", "3")
    other = Linker("games", ("id", "name", "note"))
    assert other.follow(other.start, row) != LINKER.follow(LINKER.start, row)
