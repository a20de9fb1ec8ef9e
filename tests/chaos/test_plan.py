"""The plan of a chaos run is its seed's, and the audit of a flow sees each way in which money goes wrong."""

from dataclasses import replace

import pytest

from cli.chaos.plan import STORIES, Amiss, Evidence, Flow, Seen, chosen, draw
from cli.stack.parts import StackFailed

GOOD = Seen("captured", 5_000, ledger=5_000, postings=1, kept=5_000, claims=1)


def _verdicts(name: str, seen: Seen | None, **more: object) -> list[str]:
    flow = Flow(1, chosen([name])[0], "k", 5_000, 0, **({"subject": "inv_1", "answered": True} | more))  # type: ignore[arg-type]
    found: list[Amiss] = flow.story.judge(flow, Evidence({"inv_1": seen} if seen else {}))
    return [each.verdict for each in found]


def test_a_seed_draws_the_same_plan_again() -> None:
    def plan(seed: int) -> list[tuple[str, str, int, int]]:
        return [(each.story.name, each.key, each.amount, each.person) for each in draw(seed, 300, 10, chosen([]))]

    assert plan(1) == plan(1) != plan(2)
    assert {name for name, *_ in plan(1)} == set(STORIES)
    assert len({key for _, key, *_ in plan(1)}) == 300


def test_stories_are_chosen_by_prefix() -> None:
    assert {each.name for each in chosen(["settle"])} == {"settle.captured", "settle.released"}
    with pytest.raises(StackFailed, match=r"invest\.card"):
        chosen(["loan"])


@pytest.mark.parametrize(
    ("seen", "verdicts"),
    [
        (GOOD, []),
        (None, ["lost"]),
        (replace(GOOD, status="pledged", ledger=0, postings=0, kept=0, claims=0), ["stuck"]),
        (replace(GOOD, kept=10_000, claims=2), ["doubled"]),
        (replace(GOOD, claims=2), ["doubled"]),  # one took the money, the other still holds it
        (replace(GOOD, kept=0, claims=0), ["lost"]),
        (replace(GOOD, ledger=10_000, postings=2), ["doubled"]),
        (replace(GOOD, ledger=0, postings=0), ["lost"]),
    ],
)
def test_the_audit_of_a_flow(seen: Seen | None, verdicts: list[str]) -> None:
    assert _verdicts("invest.card", seen) == verdicts


def test_a_flow_without_an_answer_is_stuck_and_an_unplanned_refusal_is_wrong() -> None:
    assert _verdicts("invest.card", None, subject=None, answered=False) == ["stuck"]
    assert _verdicts("invest.card", None, subject=None, refusal="campaign_closed") == ["wrong"]
    assert _verdicts("settle.captured", None, subject=None, refusal="campaign_closed") == []


def test_money_kept_of_a_pledge_that_failed_is_doubled() -> None:
    assert _verdicts("invest.declined", replace(GOOD, status="failed", ledger=0, postings=0)) == ["doubled"]


@pytest.mark.parametrize(
    ("name", "end", "other"),
    [("settle.captured", "captured", "canceled"), ("settle.released", "canceled", "failed")],
)
def test_what_was_held_at_the_deadline_has_one_end(name: str, end: str, other: str) -> None:
    gone = replace(GOOD, ledger=0, postings=0, kept=0, claims=0)
    held = replace(GOOD if end == "captured" else gone, status=end, held_in_time=True)
    assert _verdicts(name, held) == []
    assert _verdicts(name, replace(gone, status=other, held_in_time=True)) == ["wrong"]
    assert _verdicts(name, replace(gone, status=other)) == []
