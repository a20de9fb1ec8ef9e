"""Nothing is silently stuck (RELIABILITY D7): what is planted on the real server is reported within a minute, by all faces.

All trials begin at once, with the first test, and are waited for one by one.
"""

import asyncio
import contextlib
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetActivityRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError
from typer.testing import CliRunner

from cli.demo.world import Json
from cli.main import app
from cli.stack.stack import Stack
from contracts.base import Scope
from contracts.ids import workflow_id
from contracts.visibility import ENTITY, MODE, TENANT, typed
from domain.stuck import StuckKind
from tests.architecture.source import ROOT
from tests.fixtures.stack import judge, new_world
from tests.fixtures.stage import Stage
from tests.stuck import planted

WITHIN_SECONDS = 60
EXPECTED = {
    "PlantedBug": ("task_failing", {"unhandled_failure"}),
    "PlantedPayload": ("task_failing", {"payloads_too_large"}),
    "PlantedFanOut": (
        "task_failing",
        {"pending_activities_limit_exceeded", "timed_out"},
    ),  # timed out on a busy machine
    "PlantedRetries": ("activity_retrying", {"RuntimeError"}),
    "PlantedDelay": ("overdue", {None}),
}
FOR_EVER = 100_000


@dataclass
class Trials:
    """Two tenants in trouble: one with planted workflows, one whose provider does not answer a look-up."""

    planted: Stage
    real: Stage
    payment_id: str
    process: str
    page: Json
    began: float = field(default_factory=time.monotonic)

    async def reported(self, world: Stage, subject: str) -> Json:
        """Ask the API until it reports the subject, no longer than a minute after the start; the finding."""
        while True:
            report = await world.admin.get("/v1/admin/stuck")
            assert report["temporal"] == "up" and report["complete"]
            found = [each for each in report["findings"] if each["subject"] == subject]
            if found:
                assert len(found) == 1, "one thing is reported once"
                return found[0]
            assert time.monotonic() - self.began < WITHIN_SECONDS, f"{subject} was not reported: {report}"
            await asyncio.sleep(0.5)

    async def try_again_now(self, temporal: Client) -> None:
        """An operator need not wait for the next try: Temporal resets the activity's attempts."""
        request = ResetActivityRequest(
            namespace=temporal.namespace,
            execution=WorkflowExecution(workflow_id=self.process),
            type="check_attempt",
        )
        with contextlib.suppress(RPCError):  # nothing is retrying any more
            await temporal.workflow_service.reset_activity(request)


@pytest.fixture(scope="module")
async def trials(stack: Stack, temporal: Client) -> AsyncIterator[Trials]:
    tenant, real = await new_world(stack), await new_world(stack)
    scope = tenant.seeded.scope
    command = [sys.executable, "-m", "tests.stuck.planted", stack.settings.temporal_address]
    worker = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE, stderr=DEVNULL)
    assert worker.stdout is not None
    assert await worker.stdout.readline() == b"ready\n"
    made = await _a_look_up_that_fails(tenant, real, temporal)
    handles = [await _start(temporal, scope, each.__name__) for each in planted.WORKFLOWS]
    made.began = time.monotonic()
    try:
        yield made
        await real.clear_faults("paystack")
        await made.try_again_now(temporal)
        await judge(real, temporal)
    finally:
        worker.kill()
        await worker.wait()
        for handle in handles:
            await handle.terminate("the trial is over")
        await tenant.close()
        await real.close()


async def _start(temporal: Client, scope: Scope, name: str) -> WorkflowHandle[Any, Any]:
    return await temporal.start_workflow(
        name,
        id=f"planted/{scope}/{name}",
        task_queue=planted.QUEUE,
        search_attributes=typed({TENANT.name: str(scope.tenant_id), MODE.name: scope.mode, ENTITY.name: name}),
    )


async def _a_look_up_that_fails(tenant: Stage, real: Stage, temporal: Client) -> Trials:
    """A payer is on the hosted page, somebody says there is news, and the provider only answers with errors."""
    campaign = await real.campaign("keep_what_you_raise", goal=500_000)
    ada = await real.person()
    await real.fault("paystack", "paystack.verify", "500_before", times=FOR_EVER)
    made = await real.invest(ada, campaign, 100_000, "paystack")
    payment = await real.until(ada, f"/v1/payments/{made['payment_id']}", "requires_action")
    process = temporal.get_workflow_handle(workflow_id("payment", real.seeded.scope, made["payment_id"]))
    await process.signal("provider_reported")
    return Trials(tenant, real, made["payment_id"], process.id, payment["next_action"])


@pytest.mark.parametrize("name", EXPECTED)
async def test_planted_trouble_is_reported_within_a_minute(name: str, trials: Trials) -> None:
    found = await trials.reported(trials.planted, name)
    kind, codes = EXPECTED[name]
    assert found["kind"] == kind and found["code"] in codes
    assert found["why"] and found["do"] and datetime.fromisoformat(found["since"])
    assert found["workflow_id"].endswith(f"/{name}")
    assert "people.test" not in str(found), "an exception's message may name a person"


async def test_a_look_up_that_keeps_failing_is_told_in_plain_words(trials: Trials) -> None:
    """The payment itself looks healthy: no unknown outcome, no blocked reason."""
    found = await trials.reported(trials.real, trials.payment_id)
    assert (found["kind"], found["code"]) == ("activity_retrying", "server_error")
    assert found["why"].startswith("Looking up at the provider what became of the payment has failed ")
    assert "the provider answers with an error of its own (server_error)" in found["why"]
    assert "no state has changed" in found["why"]


async def test_a_tenant_hears_of_its_own_only(trials: Trials) -> None:
    await trials.reported(trials.planted, "PlantedDelay")
    await trials.reported(trials.real, trials.payment_id)
    theirs = await trials.planted.admin.get("/v1/admin/stuck")
    assert {each["subject"] for each in theirs["findings"]} <= set(EXPECTED)
    ours = await trials.real.admin.get("/v1/admin/stuck")
    assert {each["subject"] for each in ours["findings"]} == {trials.payment_id}
    investor = await trials.real.person()
    assert (await investor.call("GET", "/v1/admin/stuck")).status_code == 403


async def test_the_command_shows_all_tenants_and_fails(trials: Trials, stack: Stack) -> None:
    for name in EXPECTED:
        await trials.reported(trials.planted, name)
    shown = await asyncio.to_thread(CliRunner().invoke, app, ["stuck", "--var", str(stack.directory)])
    assert shown.exit_code == 1, shown.output
    for part in (*EXPECTED, trials.payment_id, "look", "why", "do", "never terminate it"):
        assert part.lower() in shown.output.lower(), part
    as_json = await asyncio.to_thread(CliRunner().invoke, app, ["stuck", "--json", "--var", str(stack.directory)])
    assert as_json.exit_code == 1
    assert '"kind": "task_failing"' in as_json.output


async def test_the_metrics_count_them(trials: Trials, stack: Stack) -> None:
    for name in EXPECTED:
        await trials.reported(trials.planted, name)
    async with httpx.AsyncClient() as http:
        while True:
            text = (await http.get(stack.urls["metrics"])).text
            values = {
                (sample.name, sample.labels.get("kind")): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
            if values.get(("chama_stuck", "task_failing"), 0) >= 3 and values[("chama_stuck", "overdue")] >= 1:
                break
            assert time.monotonic() - trials.began < WITHIN_SECONDS, text
            await asyncio.sleep(0.5)
    assert {kind for name, kind in values if name == "chama_stuck"} == set(StuckKind)
    assert values[("chama_stuck_oldest_seconds", "task_failing")] > 0
    assert values[("chama_stuck_scan_complete", None)] == 1
    assert values[("chama_stuck_scan_timestamp_seconds", None)] > 0


async def test_what_is_mended_is_not_reported_any_more(trials: Trials, temporal: Client) -> None:
    await trials.reported(trials.real, trials.payment_id)
    await trials.real.clear_faults("paystack")
    await trials.real.pay_page(trials.page)
    await trials.try_again_now(temporal)
    await trials.real.until_true(
        lambda: trials.real.admin.get("/v1/admin/stuck"), lambda seen: seen["findings"] == [], "nothing is stuck", 20
    )
