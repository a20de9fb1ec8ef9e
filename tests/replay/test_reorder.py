"""What the replay check is worth: workflow code whose commands come in another order is caught, and only that."""

from datetime import timedelta

import pytest
from temporalio.client import Client, WorkflowHistory
from temporalio.workflow import NondeterminismError

from cli.demo.world import CARD
from contracts.ids import workflow_id
from tests.fixtures.replay import history_of, replayer
from tests.fixtures.stack import FastForward
from tests.fixtures.stage import Stage
from tests.replay.reordered import LooksUpBeforeItStarts, TellsBeforeItCollects
from workflows.investment import InvestmentWorkflow
from workflows.payment import PaymentWorkflow


@pytest.fixture
async def recorded(world: Stage, temporal: Client) -> dict[str, WorkflowHistory]:
    """Histories of a pledge paid by card, fresh from the server."""
    campaign = await world.campaign("keep_what_you_raise", goal=100_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 30_000, "stripe", instrument=CARD)
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    await temporal.get_workflow_handle(made["workflow_id"]).result()
    ids = {"payment": workflow_id("payment", world.seeded.scope, made["payment_id"]), "investment": made["workflow_id"]}
    return {noun: await history_of(temporal, each) for noun, each in ids.items()}


CHANGED = {"payment": LooksUpBeforeItStarts, "investment": TellsBeforeItCollects}


@pytest.mark.parametrize("noun", CHANGED)
async def test_a_reorder_is_caught(world: Stage, recorded: dict[str, WorkflowHistory], noun: str) -> None:
    with pytest.raises(NondeterminismError):
        await replayer(world.stack.settings, [CHANGED[noun]]).replay_workflow(recorded[noun])


async def test_the_code_that_made_it_replays(world: Stage, recorded: dict[str, WorkflowHistory]) -> None:
    for noun, same in (("payment", PaymentWorkflow), ("investment", InvestmentWorkflow)):
        result = await replayer(world.stack.settings, [same]).replay_workflow(recorded[noun])
        assert result.replay_failure is None


async def test_a_day_of_virtual_time_replays(world: Stage, temporal: Client, fast_forward: FastForward) -> None:
    """A hosted page nobody pays on: every look-up of the day, then expiry and the place freed."""
    campaign = await world.campaign("keep_what_you_raise", goal=100_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 30_000, "paystack")
    payment = workflow_id("payment", world.seeded.scope, made["payment_id"])
    await fast_forward(payment, timedelta(hours=23))
    assert (await world.investment(ada, made))["status"] == "awaiting_payment"
    await fast_forward(payment, timedelta(hours=2))
    await world.until(ada, f"/v1/investments/{made['id']}", "expired")
    assert await world.counters(campaign) == (0, 0, 0)
    history = await history_of(temporal, payment)
    timers = sum(event.HasField("timer_started_event_attributes") for event in history.events)
    assert 5 <= timers <= 30, "polled ever more rarely, not every minute"
    await replayer(world.stack.settings, [PaymentWorkflow]).replay_workflow(history)
