"""Debian's Chromium, headless. Where there is none, the tests that need it are skipped and say so."""

import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright, expect

CHROMIUM = shutil.which("chromium")
_SWITCHES = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="package")
async def chromium() -> AsyncIterator[Browser]:
    """One browser for the package; every test opens a context of its own."""
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH (apt-get install chromium): the hosted page was not tried in a real browser")
    expect.set_options(timeout=60_000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_SWITCHES)
        yield browser
        await browser.close()
