"""When a run has grown long enough to continue as new (RELIABILITY D3).

A loop bound in steps says little: signals, ranges and retries add events of their own. What counts is the history the
server keeps, so every loop of ours asks here once a turn. The limits lie so far below those of `infra.limits_guard` that
the turn under way (a settlement's pass over a hundred thousand lines is some 900 events) still fits.
"""

from typing import Final

from temporalio import workflow

CONTINUE_WHEN_FULL: Final = "continue-when-full"
"""The patch's name: runs begun before it go on counting their steps only."""
EVENTS: Final = 2_500
BYTES: Final = 1_250_000


def is_full() -> bool:
    """Whether this run should continue as new at its next quiet line. The same at every replay."""
    info = workflow.info()
    full = (
        info.is_continue_as_new_suggested()
        or info.get_current_history_length() >= EVENTS
        or info.get_current_history_size() >= BYTES
    )
    return full and workflow.patched(CONTINUE_WHEN_FULL)
