"""Cases: facts that a person should see. Most close with the money they are about; a few by whoever dealt with them."""

from typing import Final

from domain.errors import Conflict

BY_HAND: Final = frozenset({"failed_line", "failed_refund", "late_payout"})
"""A provider has said its last word, so nothing else will close them."""


def check_resolvable(kind: str, status: str, *, worked_on: bool, unbooked: bool = False) -> None:
    """Refuse to close by hand what closes by itself, is closed, or may yet succeed. `unbooked`: it is about money that no
    booking and so no refund of ours is about.

    Raises Conflict `case_closes_itself`, `case_resolved`, `case_worked_on`.
    """
    if kind not in BY_HAND and not unbooked:
        raise Conflict("case_closes_itself", "This kind of case closes when the money it is about is settled.")
    if status != "open":
        raise Conflict("case_resolved", "The case is closed already.")
    if worked_on:
        raise Conflict("case_worked_on", "Its settlement still works on the line: wait until it has failed for good.")
