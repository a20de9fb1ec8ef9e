"""What Chama costs beside the bare thing it stands on: `make bench`. Each ratio is measured side by side in one run.

Absolute figures drift by a third on shared machines, so none is promised: a ratio is ours ÷ bare, both sides taking
turns, and the median of the rounds counts. docs/performance.md has the table of the last committed run.
"""
