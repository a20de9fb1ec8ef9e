"""The quick chaos run: two hundred investments, everything killed meanwhile, and nothing lost, doubled or stuck."""

from pathlib import Path

import pytest

from cli.chaos.plan import QUICK
from cli.chaos.run import Run, carry_out, plan
from cli.chaos.show import write

SEED, FLOWS = 7, 200


@pytest.fixture(scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One whole run; its report is in `chaos.json` beside its stack."""
    root: Path = tmp_path_factory.mktemp("chaos")
    for parent in [root, *root.parents][:4]:
        parent.chmod(parent.stat().st_mode | 0o711)
    made = plan(SEED, FLOWS, list(QUICK))
    try:
        await carry_out(made, root / "var")
    finally:
        write(root / "chaos.json", [made])
    return made


@pytest.mark.timeout(900)
async def test_nothing_is_lost_doubled_or_stuck(run: Run) -> None:
    row = run.as_json()
    print(f"converged {row['converge_seconds']} s after healing")
    assert run.wrong() == [], row
    assert (row["lost"], row["doubled"], row["stuck"], row["wrong"], row["audit_ok"]) == (0, 0, 0, 0, True)


async def test_everything_was_broken_meanwhile(run: Run) -> None:
    """A run in which nothing went wrong proves nothing."""
    row = run.as_json()
    assert row["kills"] >= 15 and len(row["kills_by_kind"]) == 8, row["kills_by_kind"]
    assert row["provider_faults"] >= 25 and row["tcp_faults"] >= 40, row["faults_by_kind"]
    assert row["reads"] > 100 and sum(row["retries"].values()) > 0
    assert sum(count for end, count in row["ends"].items() if end.endswith("captured")) >= FLOWS / 3
