"""The table "Controls" of docs/reliability.md: a marked block, written by a whole run and by nothing else."""

import re
from typing import Any, Final

from tests.architecture.source import ROOT

PAGE: Final = ROOT / "docs" / "reliability.md"
_BLOCK: Final = re.compile(
    r"(?<=<!-- controls: written by make controls -->\n).*?(?=<!-- end of controls -->)", re.DOTALL
)


def render(report: dict[str, Any]) -> str:
    """The block's text for a run's report (`run.report_of`)."""
    lines = [
        f"At commit `{report['commit']}`: {report['detected']} of {report['guards']} guards noticed when switched off, one by "
        f"one; {report['proof']}.",
        "",
        "| guard | holds up | switched off | caught by (red tests) |",
        "|---|---|---|---|",
    ]
    for run in report["runs"]:
        names = sorted({each["test"].partition("[")[0] for each in run["caught_by"]})
        caught = ", ".join(f"`{name}`" for name in names)
        cell = f"{caught} ({run['red']})" if names else run["note"]
        lines.append(f"| {run['guard']} | {run['promise']} | {run['off']} | {cell} |")
    return "\n".join([*lines, ""])


def write_docs(report: dict[str, Any]) -> None:
    """Replace the block."""
    PAGE.write_text(_BLOCK.sub(lambda _: render(report), PAGE.read_text(), count=1))
