"""The whole OpenAPI document against the running API: no 5xx, and every answer as documented (RELIABILITY F1, F3).

All phases of schemathesis: examples, coverage of each constraint, fuzzing, and stateful runs along the links. `make
hostile` asks for the nightly number of cases (CASES=20000).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.fixtures.hostile import Target

CASES = int(os.environ.get("CHAMA_HOSTILE_CASES", "2000"))
PER_OPERATION = max((CASES - 4_500) // 80, 6)
"""Examples of the fuzzing phase. The others send some 4,500 requests whatever is asked for; each example more sends 80 to 90."""


@pytest.mark.timeout(3600)
def test_every_operation_answers_as_documented(served: Target, tmp_path: Path) -> None:
    described = tmp_path / "target.json"
    tokens = {str(role): served.app.state.tokens.issue(user) for role, user in (served.users or {}).items()}
    described.write_text(json.dumps({"tokens": tokens, "things": served.things}))
    command = [str(Path(sys.executable).with_name("st")), "--config-file", "tests/hostile/schemathesis.toml", "run"]
    command += [f"{served.http.base_url}/openapi.json", "--max-examples", str(PER_OPERATION), "--seed", "20"]
    environment = {**os.environ, "CHAMA_TARGET": str(described), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    sent = json.loads((tmp_path / "sent.json").read_text())
    count = sum(sent["statuses"].values())
    print(f"schemathesis sent {count} requests: {sent['statuses']}")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert not [status for status in sent["statuses"] if status >= "500"]
    assert count >= CASES
    operations = {f"{verb.upper()} {path}" for path, verbs in served.app.openapi()["paths"].items() for verb in verbs}
    assert set(sent["operations"]) == operations
