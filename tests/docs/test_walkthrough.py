"""The README's walkthrough, run as it stands there: the same blocks, the same shell, the same commands."""

import asyncio
import json
from pathlib import Path

import pytest

from cli.stack.stack import Stack
from tests.architecture.source import ROOT
from tests.docs.pages import walkthrough

_SECONDS = 300


@pytest.mark.timeout(_SECONDS + 60)
async def test_the_walkthrough_works_as_written(stack: Stack, tmp_path: Path) -> None:
    """In a directory with the reader's `.venv` and `var/`, and the three variables `make up` prints."""
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "var").symlink_to(stack.directory)
    given = {
        "API": stack.urls["api"],
        "TEMPORAL_UI": stack.urls["temporal_ui"],
        "ADMIN_PASSWORD": stack.seeded.admin_password,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    script = walkthrough()
    assert "/invest" in script and "chama audit" in script
    process = await asyncio.create_subprocess_exec(
        "bash", "-eu", "-o", "pipefail", "-c", script, cwd=tmp_path, env=given,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        raw, _ = await asyncio.wait_for(process.communicate(), _SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
    shown = raw.decode()
    assert process.returncode == 0, shown
    answers = [json.loads(line) for line in shown.splitlines() if line.startswith("{")]
    refused = [each["code"] for each in answers if "code" in each]
    assert refused in ([], ["clock_exists"]), shown
    states = [each["data"].get("status") for each in answers if "code" not in each]
    assert [s for s in states if s in ("live", "captured", "held")] == ["live", "captured", "held", "captured"], shown
    assert "\nfunded\n" in shown
    assert '"workflowId": "investment/' in shown and "WORKFLOW_EXECUTION_STATUS_" in shown
    assert "The books balance" in shown
