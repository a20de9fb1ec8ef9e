"""What a person does: follow the link to the provider's page, press the button, and see the pledge paid.

And what an operator does: find its process in the Temporal UI by the number the person reads out.
"""

import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, expect

from cli.demo.world import World
from contracts.ids import workflow_id
from tests.fixtures.stack import FastForward

pytestmark = pytest.mark.browser
MS = 30_000


async def test_pay_in_a_browser_and_find_the_process_by_its_number(
    world: World, chromium: Browser, tmp_path: Path
) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 125_000, "paystack")
    person = await chromium.new_page()
    await person.goto(made["next_action"]["redirect_url"])
    await expect(person.locator("#amount")).to_contain_text("1,250.00")
    await person.screenshot(path=tmp_path / "page.png")
    await person.click("#pay")
    await expect(person.locator("#outcome")).to_have_attribute("data-outcome", "paid")
    await person.screenshot(path=tmp_path / "result.png")
    await person.close()

    seen = await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    events = [each["event"] for each in seen["timeline"]]
    assert events.index("investment_pledged") < events.index("payment_succeeded")
    assert "investment_captured" in events

    operator = await chromium.new_page(viewport={"width": 1400, "height": 900})
    found_by = quote(f'ChamaEntity="{made["id"]}"')
    await operator.goto(f"{world.stack.urls['temporal_ui']}/namespaces/default/workflows?query={found_by}")
    link = operator.get_by_role("link", name=made["workflow_id"])
    await expect(link).to_have_count(1, timeout=MS)
    await operator.screenshot(path=tmp_path / "list.png")
    await link.click()
    await operator.wait_for_url(re.compile("/workflows/[^/?]+/[0-9a-f-]{36}/"), timeout=MS)
    await expect(operator.get_by_text(made["workflow_id"]).first).to_be_visible(timeout=MS)
    await expect(operator.get_by_text("InvestmentWorkflow").first).to_be_visible(timeout=MS)
    await operator.screenshot(path=tmp_path / "workflow.png")
    await operator.close()


async def test_decline_in_a_browser_frees_the_place(world: World, chromium: Browser, fast_forward: FastForward) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=125_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 125_000, "paystack")
    person = await chromium.new_page()
    await person.goto(made["next_action"]["redirect_url"])
    await person.click("#decline")
    await expect(person.locator("#outcome")).to_have_attribute("data-outcome", "failed")
    await person.close()
    # Paystack tells of successes only: a refusal is found by looking, after a minute.
    payment = workflow_id("payment", world.seeded.scope, made["payment_id"])
    await fast_forward(payment, timedelta(seconds=65))
    await world.until(ada, f"/v1/investments/{made['id']}", "failed")
    assert (await world.admin.get(f"/v1/campaigns/{campaign}"))["pledged"]["amount"] == 0
