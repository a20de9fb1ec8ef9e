"""Messages of the webhook inbox (`workflows/inbox.py`) and of sending notifications."""

from typing import Final

from contracts.base import Message, Scope

INBOX: Final = "webhooks"
"""The id of a scope's inbox, and the subject under which it queues messages to people."""


class InboxInput(Message):
    """Starts (or continues) the draining of one scope's webhook inbox."""

    scope: Scope


class InboxProgress(Message):
    """What a pass did. `wait_seconds`: until the next stored event wants work; None when the inbox is empty.

    `notices`: whether messages to people wait to be sent, whoever queued them: a pass whose answer was lost is repeated and
    processes nothing. None in histories that are older than the field: a pass that processed something then told.
    """

    processed: int
    wait_seconds: int | None = None
    notices: bool | None = None


class NotificationTask(Message):
    """Send what is queued about a subject (an investment, a payment, a settlement).

    `hand_over`: for a process that has more to do. What is not sent in a moment becomes the work of a process of its own.
    """

    scope: Scope
    subject_id: str
    hand_over: bool = False
