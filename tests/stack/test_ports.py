"""Two stacks that start at the same moment do not take the same port."""

import subprocess
import sys

import pytest

from cli.stack import ports
from tests.architecture.source import ROOT

_PICK = (
    "from cli.stack import ports; ports._LOWEST, ports._COUNT = {}, 1; print(ports.pick(set()), flush=True); input()"
)


def test_what_another_process_picked_is_taken_before_it_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    port = ports.pick(set())
    monkeypatch.setattr(ports, "_LOWEST", port + 1 if port < 29_999 else port - 1)
    monkeypatch.setattr(ports, "_COUNT", 1)
    code = _PICK.format(ports._LOWEST)
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and int(other.stdout.readline()) == ports._LOWEST
        with pytest.raises(ports.PortTaken):
            ports.pick(set())
        other.communicate("done\n")
    assert ports.pick(set()) == ports._LOWEST == ports.pick(set()), "free again, and ours to pick again"
