"""Run by the upgrade test inside a checkout of the last release, with that release's code: fill a stack, then die.

`python old_side.py <directory of the stack> <settings as JSON> <slug>` prints one line of JSON: what was promised. The
whole stack is then killed with signal 9, processes and servers alike. Imports are the old release's own.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from cli.demo.world import CARD, World
from cli.stack.stack import Stack

PAGES, CARDS, AMOUNT = 12, 8, 10_000


async def fill(stack: Stack, slug: str) -> dict[str, Any]:
    """Payments that wait for their payers on a page, and held pledges before a deadline."""
    world = await World.make(stack, slug)
    try:
        await world.start_clock()
        ada, bem = await world.person(), await world.person()
        at_once = await world.campaign("keep_what_you_raise", goal=PAGES * AMOUNT, days=9)
        decided = await world.campaign("all_or_nothing", goal=CARDS * AMOUNT, days=2)
        pages = await asyncio.gather(*(world.invest(ada, at_once, AMOUNT, "paystack") for _ in range(PAGES)))
        cards = await asyncio.gather(
            *(world.invest(bem, decided, AMOUNT, "stripe", instrument=CARD) for _ in range(CARDS))
        )
        for made in pages:
            await world.until(ada, f"/v1/investments/{made['id']}", "awaiting_payment")
        for made in cards:
            await world.until(bem, f"/v1/investments/{made['id']}", "held")
        return {
            "ada": [ada.user_id, ada.token],
            "bem": [bem.user_id, bem.token],
            "campaigns": [at_once, decided],
            "pages": [[made["id"], made["payment_id"]] for made in pages],
            "cards": [made["id"] for made in cards],
            "workflow_ids": world.workflow_ids,
        }
    finally:
        await world.close()


def main(directory: str, settings: str, slug: str) -> None:
    stack = Stack(Path(directory), env=json.loads(settings))
    stack.start()
    try:
        print(json.dumps(asyncio.run(fill(stack, slug))), flush=True)
    finally:
        stack.stop(at_once=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
