"""The pages tell the truth: links lead somewhere, and every table that repeats the code repeats all of it."""

import base64
import re
from pathlib import Path

import pytest

from api.main import create_app
from cli.stack import ports
from contracts.visibility import registration
from infra.settings import Settings
from sandbox import paystack_banks
from tests.api.test_policy import routes
from tests.architecture.source import ROOT, of, sources
from tests.docs.codes import error_codes
from tests.docs.pages import anchors, code, links, pages, rows

API = ROOT / "docs" / "api.md"
OPERATIONS = ROOT / "docs" / "operations.md"
RELIABILITY = ROOT / "docs" / "reliability.md"
KEY = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        if not link.file.exists() or not link.file.is_relative_to(ROOT):
            broken.append(f"{link}: no such file")
        elif link.anchor and link.anchor not in anchors(link.file):
            broken.append(f"{link}: no such heading")
        elif re.fullmatch(r"`\w+`", link.text) and link.file.suffix == ".py":
            name = link.text.strip("`")
            if not re.search(
                rf"^\s*(?:async def|def|class) {name}\b|^{name}\b.*=", link.file.read_text(), re.MULTILINE
            ):
                broken.append(f"{link}: {name} is not defined there")
    assert broken == []


def test_every_endpoint_is_listed() -> None:
    """Both ways: OpenAPI's operations, those for Temporal's UI, and streams, are the rows of the table."""
    app = create_app(Settings(token_key=KEY, vault_key=KEY, payload_keys={"k": KEY}, payload_key="k"))
    served = {f"{verb.upper()} {path}" for path, verbs in app.openapi()["paths"].items() for verb in verbs}
    undocumented = [route for route in routes() if route.tags in (["codec"], ["streams"])]
    served |= {f"{verb} {route.path}" for route in undocumented for verb in route.methods}
    assert served == {code(row[0]) for row in rows(API, "## Endpoints")}


def test_every_error_code_is_listed() -> None:
    listed = [(int(status), code(name)) for status, name, _ in rows(API, "## Errors")]
    assert listed == sorted(listed), "the table is in order"
    wanted = error_codes() | {(422, "invalid_request"), (503, "unavailable")}
    assert set(listed) == wanted


def test_every_decline_code_of_ours_is_listed() -> None:
    """What a payment's own `error_code` may be, the providers' codes left out."""
    text = API.read_text().split("## Errors", 1)[1].split("\n\n")[-1]
    listed = set(re.findall(r"`([a-z_]+)`", text.split("one of ours:", 1)[1]))
    in_code = {name for source in of("activities", "api") for name in re.findall(r'"([a-z_]+)"', source.text)}
    assert listed <= in_code


def test_every_setting_is_listed() -> None:
    listed = {code(row[0]): code(row[1]) for row in rows(OPERATIONS, "## Settings")}
    assert set(listed) == {f"CHAMA_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        shown = "" if "Secret" in repr(field.annotation) and not isinstance(field.default, dict) else str(field.default)
        assert listed[f"CHAMA_{name.upper()}"] == shown, name


def test_every_search_attribute_is_listed() -> None:
    listed = [(code(row[0]), row[1]) for row in rows(OPERATIONS, "## Finding a process")]
    assert sorted(listed) == sorted(registration())


def test_every_kind_of_case_is_listed() -> None:
    opened = {
        kind
        for source in of("activities")
        for kind in re.findall(
            r'(?:open_case\([^)]*?kind=|_open\(book, |book\.open_case\(\s*)"(\w+)"', source.text, re.DOTALL
        )
    }
    assert opened == {code(row[0]) for row in rows(OPERATIONS, "## Cases")}


def test_every_blocked_reason_is_explained() -> None:
    pattern = r"""(?:blocked_reason"?[:=] ?|\bblocked = )"(\w+)\""""
    reasons = {name for source in of("activities", "workflows") for name in re.findall(pattern, source.text)}
    assert reasons
    explained = " ".join(row[0] for row in rows(OPERATIONS, "## Something is stuck"))
    assert {name for name in reasons if f"blocked_reason: {name}" not in explained} == set()


def test_every_finding_of_the_audit_is_explained() -> None:
    numbers = {number for source in sources() for number in re.findall(r'f?"(A\d) ?[{"]|"(A\d)",', source.text)}
    assert {a or b for a, b in numbers} == {code(row[0]) for row in rows(OPERATIONS, "## The books")}


def test_every_kind_of_test_account_is_listed() -> None:
    fates = {value for name, value in vars(paystack_banks).items() if name.isupper() and isinstance(value, str)}
    listed = [code(row[0]) for row in rows(OPERATIONS, "## The sandbox's bank accounts")]
    assert sorted(filter(None, listed)) == sorted(f"{fate}…" for fate in fates)


def test_every_test_that_is_named_exists() -> None:
    named = [*re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", RELIABILITY.read_text())]
    assert len(named) > 40
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).exists() or not re.search(rf"def {name}\(", (ROOT / path).read_text())
    ]
    assert missing == []


def test_fixed_ports_are_where_the_page_says() -> None:
    assert "cli/stack/ports.py" in OPERATIONS.read_text()
    assert "CHAMA_API_PORT" in ports.FIXED_BY.values()


def test_decisions_are_listed_and_whole() -> None:
    """Every page is in the table, under its own title, and has all five parts."""
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    for page in sorted(folder.glob("0*.md")):
        text = page.read_text()
        title = text.splitlines()[0].removeprefix("# ")
        assert f"| [{title[:4]}]({page.name}) | {title[5:]} |" in index
        for part in ("Context", "Decision", "Consequences", "Alternatives", "References"):
            assert f"\n## {part}\n" in text, f"{page.name} has no {part}"
        assert len(text.splitlines()) <= 60, f"{page.name} is more than a page"
