"""A statement as a PDF of A4 pages: what a person files, or shows to a bank.

Roboto is embedded, because the fonts every PDF reader has know no Yoruba. Text is drawn, never interpreted.
"""

from collections.abc import Callable, Container, Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from font_roboto import Roboto, RobotoBold
from fpdf import FPDF
from fpdf.enums import TableBordersLayout
from fpdf.fonts import FontFace

from domain.money import format_amount
from domain.statement import Statement, said

_INK, _FAINT, _RULE = (28, 34, 40), (104, 112, 120), (238, 241, 244)
_WALLET = (("Date", 24), ("What", 62), ("In", 32), ("Out", 32), ("Balance", 36))
_TRADES = (("Date", 24), ("Campaign", 88), ("What", 42), ("Amount", 32))
_HOLDINGS = (("Campaign", 140), ("Invested", 46))
_SUM: Final = FontFace(emphasis="BOLD")
_TEXTS: Final = frozenset({"Date", "What", "Campaign"})


class _Pages(FPDF):
    """Pages that say at their foot what they belong to."""

    def __init__(self, foot: str) -> None:
        super().__init__(format="A4")
        self._foot = foot
        self.set_margins(12, 14)
        self.set_auto_page_break(True, margin=20)
        self.add_font("Roboto", "", Roboto)
        self.add_font("Roboto", "B", RobotoBold)
        self.add_page()

    def footer(self) -> None:
        """What each page ends with."""
        self.set_y(-14)
        self.write_line(f"{self._foot}    Page {self.page_no()} of {{nb}}", size=8, color=_FAINT)

    def write_line(
        self, text: str, *, size: float = 10, bold: bool = False, color: tuple[int, int, int] = _INK
    ) -> None:
        """One paragraph."""
        self.set_font("Roboto", "B" if bold else "", size)
        self.set_text_color(*color)
        self.multi_cell(0, size * 0.5, text, new_x="LMARGIN", new_y="NEXT")


def render(statement: Statement, *, made_at: datetime) -> bytes:
    """The PDF's bytes. Takes some milliseconds a page of processor time: not for the event loop."""
    period, zone = statement.period, ZoneInfo(statement.period.zone)

    def money(minor: int) -> str:
        return format_amount(minor, statement.currency)

    def day(at: datetime) -> str:
        return f"{at.astimezone(zone):%d %b %Y}"

    pages = _Pages(f"{statement.institution} · {statement.holder} · {period.first} to {period.last}")
    pages.set_title(f"Statement {period.first} to {period.last}")
    pages.set_author(statement.institution)
    pages.set_creation_date(made_at)
    pages.write_line(statement.institution, size=10, color=_FAINT)
    pages.write_line("Account statement", size=20, bold=True)
    pages.ln(2)
    pages.write_line(statement.holder, size=12, bold=True)
    pages.write_line(f"{period.first:%d %B %Y} to {period.last:%d %B %Y}, days of {period.zone}")
    pages.write_line(f"All amounts in {statement.currency}. Made on {day(made_at)}.", color=_FAINT)
    movements = [
        (day(each.at), said(each.event), *_sides(each.amount_minor, money), money(balance))
        for each, balance in zip(statement.movements, statement.balances, strict=True)
    ]
    opening = ("", "Opening balance", "", "", money(statement.opening_minor))
    closing = ("", "Closing balance", "", "", money(statement.closing_minor))
    _table(pages, "Wallet", _WALLET, [opening, *movements, closing], sums={0, len(movements) + 1})
    if statement.trades:
        trades = [
            (day(each.at), each.campaign, said(each.event), money(each.amount_minor)) for each in statement.trades
        ]
        _table(pages, "Investments in this period", _TRADES, trades)
    if statement.holdings:
        held = [(each.campaign, money(each.amount_minor)) for each in statement.holdings]
        total = ("Total", money(statement.invested_minor))
        _table(pages, f"Holdings on {period.last:%d %B %Y}", _HOLDINGS, [*held, total], sums={len(held)})
    return bytes(pages.output())


def _sides(minor: int, money: Callable[[int], str]) -> tuple[str, str]:
    """What came in, and what went out: one of both."""
    return ("", money(-minor)) if minor < 0 else (money(minor), "")


def _table(
    pages: _Pages,
    title: str,
    columns: Sequence[tuple[str, int]],
    rows: Sequence[tuple[str, ...]],
    sums: Container[int] = (),
) -> None:
    """A heading and a table under it, its head repeated on each page; every column but the texts to the right.

    `sums`: the places of rows to stand out.
    """
    pages.ln(5)
    pages.write_line(title, size=12, bold=True)
    pages.ln(1)
    pages.set_font("Roboto", "", 9)
    pages.set_draw_color(*_RULE)
    with pages.table(
        col_widths=tuple(width for _, width in columns),
        text_align=tuple("LEFT" if name in _TEXTS else "RIGHT" for name, _ in columns),
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        headings_style=FontFace(emphasis="BOLD", color=_INK, fill_color=_RULE),
        line_height=6,
    ) as table:
        table.row([name for name, _ in columns])
        for place, row in enumerate(rows):
            table.row(list(row), style=_SUM if place in sums else None)
