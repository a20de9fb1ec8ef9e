"""A change of a workflow's commands cannot go unnoticed, and everything else may change freely."""

from pathlib import Path

import pytest

from tests.replay import fingerprints

PAYMENT = (fingerprints.ROOT / "workflows" / "payment.py").read_text()


def test_the_commands_are_those_that_were_accepted() -> None:
    difference = fingerprints.changes(fingerprints.kept(), fingerprints.of_the_code())
    assert difference == [], "\n".join([*difference, fingerprints.ADVICE])


TELL = """            if progress.notices:
                await tell(self._input.scope, self._input.payment_id)
"""
CHANGES = {
    "another activity": ("PaymentActivities.void_attempt", "PaymentActivities.capture_attempt"),
    "another step for a branch": ("return await self._capture()", "return await self._void()"),
    "a branch more": ("            if is_full():\n", "            if is_full() and self._woken:\n"),
    "a condition": ("progress.step is not PaymentStep.DONE", "progress.step is PaymentStep.CAPTURE"),
    "the first step": ("self._load() if input.resume else", "self._load() if input.woken else"),
    "one command less": (TELL, ""),
    "one command more": (
        "        if self._ruling is not None:\n",
        "        await workflow.sleep(1)\n        if self._ruling is not None:\n",
    ),
    "another order": (
        f"            await workflow.wait_condition(workflow.all_handlers_finished)\n{TELL}",
        f"{TELL}            await workflow.wait_condition(workflow.all_handlers_finished)\n",
    ),
    "a wait without its timer": ("                timeout=self._time.until(until),\n", ""),
    "what a wait waits for": ("lambda: self._woken or self._ruling is not None", "lambda: self._woken"),
    "a loop's bound": ("MAX_STEPS = 400", "MAX_STEPS = 40"),
    "a signal's name": ("def cancel_requested", "def stop_requested"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_notices(change: str) -> None:
    before, after = CHANGES[change]
    assert before in PAYMENT
    assert fingerprints.fingerprint(PAYMENT.replace(before, after, 1)) != fingerprints.fingerprint(PAYMENT)


INNOCENT = {
    "a docstring": ("Step until the payment wants nothing more.", "Go on until it is over."),
    "a comment": ("# somebody spoke", "# a voice was heard"),
    "a summary": ('summary="take the authorized money"', 'summary="capture"'),
    "a log line": (
        "        self._ruling = None\n",
        '        self._ruling = None\n        workflow.logger.info("ruled")\n',
    ),
    "an argument": ("payment_id=self._input.payment_id, as_of=self._time.now())\n", "payment_id='', as_of=None)\n"),
}


@pytest.mark.parametrize("change", INNOCENT)
def test_it_lets_pass(change: str) -> None:
    before, after = INNOCENT[change]
    assert before in PAYMENT
    assert fingerprints.fingerprint(PAYMENT.replace(before, after, 1)) == fingerprints.fingerprint(PAYMENT)


def test_the_command_compares_and_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fingerprints, "KEPT", tmp_path / "fingerprints.json")
    (tmp_path / "fingerprints.json").write_text('{"workflows/payment.py": {"PaymentWorkflow._void": ["nothing"]}}')
    assert fingerprints.main([]) == 1
    said = capsys.readouterr().out
    assert "PaymentActivities.void_attempt" in said and "CONTRIBUTING.md" in said and "patch it" in said
    assert fingerprints.main(["--write"]) == 0 and fingerprints.main([]) == 0
