"""Every history ever recorded replays on today's workflow code (RELIABILITY D1), without a server."""

from collections import Counter
from pathlib import Path

import pytest
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from infra.settings import Settings
from tests.fixtures.replay import replayer
from tests.replay import golden
from tests.replay.paths import CONTINUED_WALKS, MOST_PATHS_NEEDED, WALKS
from tests.replay.reordered import LooksUpBeforeItStarts
from worker import WORKFLOWS
from workflows import continuing

KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
WHAT_TO_DO = "see CONTRIBUTING.md, 'Changing a workflow safely'"


def todays_code(workflows: list[type] = WORKFLOWS) -> Replayer:
    """Any key will do: golden histories are kept in clear."""
    return replayer(Settings(payload_keys={"any": KEY}, payload_key="any", workflow_limits="raise"), workflows)


def named(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


@pytest.mark.parametrize("file", golden.kept(), ids=named)
async def test_it_replays(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if golden.CONTINUED in file.stem:
        monkeypatch.setattr(continuing, "EVENTS", golden.CONTINUED_EVENTS)
    result = await todays_code().replay_workflow(golden.load(file), raise_on_replay_failure=False)
    assert result.replay_failure is None, (
        f"{named(file)}: runs in production would stop: {result.replay_failure}; {WHAT_TO_DO}"
    )


def test_every_workflow_type_has_histories() -> None:
    """A new workflow type comes with its histories; the ones money waits in with at least five paths."""
    found = Counter(file.parent.name for file in golden.kept())
    wanted = {kind.__temporal_workflow_definition.name: 1 for kind in WORKFLOWS} | MOST_PATHS_NEEDED  # type: ignore[attr-defined]
    missing = {kind: f"{found[kind]} of {most}" for kind, most in wanted.items() if found[kind] < most}
    assert missing == {}, f"record them: `python -m tests.replay.record`; {WHAT_TO_DO}"


def test_every_path_was_recorded() -> None:
    """Both ways: no walk without its file, no file that nothing records."""
    assert {named(file) for file in golden.kept()} == {f"{w.kind}/{w.path}" for w in (*WALKS, *CONTINUED_WALKS)}


async def test_another_order_is_noticed() -> None:
    file = golden.HISTORIES / "PaymentWorkflow" / "held.json"
    with pytest.raises(NondeterminismError):
        await todays_code([LooksUpBeforeItStarts]).replay_workflow(golden.load(file))


@pytest.mark.parametrize("file", golden.kept(), ids=named)
def test_it_holds_nothing_of_the_machine_it_was_made_on(file: Path) -> None:
    text = file.read_text()
    assert "binary/encrypted" not in text and "/tmp/" not in text and '"stack_trace": "Traceback' not in text
    assert "@" not in text.replace("\\u0040", "@").split('"sdkMetadata"')[0], "a worker's name, or somebody's address"
