"""docs/money.md tells the truth: its Python recipes run in order, and its SQL returns no rows on true books."""

import ast
import re
from datetime import UTC, datetime
from inspect import isawaitable
from pathlib import Path
from typing import Any

from contracts.base import Scope
from domain import accounts, distribution_postings
from infra.database import Database

PAGE = Path(__file__).parent.parent.parent / "docs" / "money.md"
BLOCKS = re.findall(r"```(python|sql)\n(.*?)```", PAGE.read_text(), re.DOTALL)


async def test_the_recipes_run(database: Database, scope: Scope) -> None:
    async with database.transaction(scope) as tx:
        names: dict[str, Any] = {"tx": tx, "as_of": datetime(2030, 1, 1, tzinfo=UTC)}
        ran = {"python": 0, "sql": 0}
        for language, text in BLOCKS:
            if language == "python":
                done = eval(compile(text, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
                if isawaitable(done):
                    await done
            else:
                assert await (await tx.execute(text)).fetchall() == []
            ran[language] += 1
    assert ran["python"] >= 8 and ran["sql"] == 2


def test_every_template_is_on_the_page() -> None:
    page = PAGE.read_text()
    templates = [
        name
        for module in (accounts, distribution_postings)
        for name, value in vars(module).items()
        if getattr(value, "__annotations__", {}).get("return") is accounts.Posting and not name.startswith("_")
    ]
    assert len(templates) >= 22
    assert [name for name in templates if f"`{name}`" not in page] == []


def test_every_refusal_is_on_the_page() -> None:
    page = PAGE.read_text()
    refusals = [
        name for name, value in vars(accounts).items() if isinstance(value, type) and issubclass(value, Exception)
    ]
    own = [name for name in refusals if vars(accounts)[name].__module__ == accounts.__name__]
    assert len(own) >= 9 and [name for name in own if f"`{name}`" not in page] == []


def test_every_account_of_the_chart_is_on_the_page() -> None:
    page = PAGE.read_text()
    for spec in (
        accounts.provider_clearing("stripe", "NGN"),
        accounts.wallet("user_id", "NGN"),
        accounts.escrow("campaign_id", "NGN"),
        accounts.suspense("NGN"),
        accounts.tax_withheld("NGN"),
        accounts.platform_fees("NGN"),
        accounts.provider_fees("NGN"),
        distribution_postings.distribution_payable("campaign_id", "NGN"),
        distribution_postings.unclaimed("NGN"),
    ):
        noun = spec.code.partition(":")[0]
        row = next(line for line in page.splitlines() if line.startswith(f"| `{noun}:"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        grows = "debit" if spec.kind.debit_normal else "credit"
        assert cells[1:5] == [str(spec.kind), grows, "no" if spec.bounded else "yes", str(spec.stripes)]
