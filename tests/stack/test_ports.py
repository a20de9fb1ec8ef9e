"""Two stacks that start at the same moment do not take the same port."""

import subprocess
import sys

import pytest

from cli.stack import ports
from tests.architecture.source import ROOT

_PICK = "from cli.stack import ports; print(ports.pick(set()), flush=True); input()"


def test_what_another_process_picked_is_taken_before_it_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PICK], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        monkeypatch.setattr(ports, "_LOWEST", int(other.stdout.readline()))
        monkeypatch.setattr(ports, "_COUNT", 1)
        with pytest.raises(ports.PortTaken):
            ports.pick(set())
        other.communicate("done\n")
    assert ports.pick(set()) == ports._LOWEST == ports.pick(set()), "free again, and ours to pick again"
