"""An operator sees a process's input in clear in the Temporal UI, once logged in at the codec's page, and not before."""

import re
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, Page, expect

from cli.demo.world import World

pytestmark = pytest.mark.browser
MS = 60_000
INPUT = "as_of"


async def test_clear_text_in_the_temporal_ui(world: World, chromium: Browser, tmp_path: Path) -> None:
    await world.campaign("keep_what_you_raise", goal=500_000)
    urls = world.stack.urls
    history = f"{urls['temporal_ui']}/namespaces/default/workflows/{quote(world.workflow_ids[0], safe='')}"
    context = await chromium.new_context(viewport={"width": 1400, "height": 1000})
    page = await context.new_page()
    await page.goto(history)
    await page.wait_for_url(re.compile("/history|/timeline"), timeout=MS)
    await expect(page.get_by_text("CampaignWorkflow").first).to_be_visible(timeout=MS)
    shown = page.get_by_role("textbox", name="Input")
    await expect(shown).not_to_contain_text(INPUT, timeout=MS)

    await page.goto(urls["clear_text"])
    await page.fill("#token", world.stack.settings.operator_token.get_secret_value())
    await page.click("#open")
    await expect(page.locator("#outcome")).to_have_attribute("data-outcome", "opened")
    endpoint = await page.locator("#endpoint").inner_text()
    await page.screenshot(path=tmp_path / "login.png")

    await page.goto(history)
    await set_up(page, endpoint)
    async with page.expect_response(lambda answer: answer.url.startswith(endpoint) and answer.ok, timeout=MS):
        await page.reload()
    await page.screenshot(path=tmp_path / "answered.png")
    await expect(shown).to_contain_text(INPUT, timeout=MS)
    await page.screenshot(path=tmp_path / "clear.png")
    await context.close()


async def set_up(page: Page, endpoint: str) -> None:
    """What the login page says to do, once per browser."""
    await page.get_by_test_id(re.compile("^data-encoder-status")).click(timeout=MS)
    await page.get_by_test_id("use-local-endpoint-input").click()
    await page.get_by_placeholder("Paste your endpoint here").fill(endpoint)
    await page.get_by_text("Include cross-origin credentials").click()
    await page.get_by_role("button", name="Apply").click()
