"""Emails: rendered from templates at send time, so that no personal data is stored with the message or in Temporal."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formatdate
from pathlib import Path
from typing import Final

import psycopg
import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from psycopg_pool import PoolTimeout
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.book import send
from activities.effects import heartbeating
from activities.mail import MailDeferred, MailLine
from contracts.base import Scope
from contracts.inbox import NotificationTask
from contracts.outbox import OutboxKind
from domain.money import format_money
from infra.database import Database
from infra.settings import Settings
from models.notification import (
    LEASE,
    Notification,
    Unsent,
    claim_queued,
    first_unsent,
    put_off,
    release_queued,
    renew_leases,
    settle_notification,
)
from models.user import User, users_of

log = structlog.get_logger(__name__)
BATCH: Final = 100
LINES_AT_ONCE: Final = 4
"""Lines to the mail server for one batch: most of a message's time is waiting for a server that is far away."""
MESSAGES_A_LINE: Final = 10
"""So few messages are not worth another line."""
BATCH_SECONDS: Final = 60.0
"""A line that is busy with a batch for longer is left to its last message."""
TRY_SECONDS: Final = 420.0
"""For one try of an activity that may take ten minutes: it ends between two batches."""
LAST_SECONDS: Final = 5.0
AT_ONCE_SECONDS: Final = 2.0
RENEWED_SECONDS: Final = LEASE.total_seconds() / 3
_LATER_AT_MOST: Final = timedelta(minutes=5)
"""Between two tries, for more messages may be queued meanwhile."""
_LATER_AT_LEAST: Final = timedelta(seconds=10)
"""Before messages that others have in hand are asked about again: nearly always these have them sent by then."""
ENDING_MOST: Final = 50
"""Lines that nobody waits for any more, in this process: a server that leaves so many unanswered gets no more of them now."""
_LOOK_SECONDS: Final = 12.0
"""A little longer than a server that does not answer is waited for."""
_ending: Final[set[asyncio.Task[int]]] = set()
"""Those lines."""
_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    autoescape=select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class _Part:
    """What one line has to send; the first of `waiting` is under way. The list gets shorter."""

    line: MailLine
    waiting: list[Notification]


class Pause:
    """A mail server that takes nothing is asked by one at a time, and the others are told to come ever later.

    Thousands of processes may have something to send by then, and each try holds one of the places that money steps need.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._until = 0.0

    def check(self, *, may_look: bool) -> None:
        """Pass when the server takes messages, and now and then for one who `may_look` whether it does again. Raises a
        retryable ApplicationError `mail_unreachable` for the others, and while too many lines wait for their answers."""
        now = time.monotonic()
        if self._since is not None and now >= self._until and may_look:
            self._until = now + _LOOK_SECONDS
        elif self._since is not None or len(_ending) >= ENDING_MOST:
            down = min(max(now - (self._since or now), 5), _LATER_AT_MOST.total_seconds())
            delay = timedelta(seconds=random.uniform(0.5, 1) * down)  # noqa: S311  no secret
            raise ApplicationError("the mail server has a rest", type="mail_unreachable", next_retry_delay=delay)

    def begin(self) -> None:
        """It took nothing: the next look is a tenth of the time ahead that this has been so."""
        now = time.monotonic()
        self._since = self._since or now
        self._until = now + min(max((now - self._since) / 10, 1), 30)

    def end(self) -> None:
        """It takes messages."""
        self._since = None


class NotificationActivities:
    """Sends what the money steps queued, by SMTP."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db, self._settings, self._pause = db, settings, Pause()

    @activity.defn
    async def send_notifications(self, task: NotificationTask) -> int:
        """Send every queued message about a subject; returns how many. A refused address is final, a dead server is not.

        A message whose sending was interrupted is sent again under the same Message-ID: mail has no other key. Asked to
        `hand_over`, it tries for a moment and counts nothing. Raises ApplicationErrors, all retryable, while any is left.
        """
        async with heartbeating():
            if task.hand_over:
                if not await self.send_at_once(task.scope, task.subject_id):
                    await self._hand_over(task)
                return 0
            sent, left = await self._send_all(task.scope, task.subject_id)
            if left is not None:
                pause = min(max(left.pause, timedelta() if left.put_off else _LATER_AT_LEAST), _LATER_AT_MOST)
                kind = "mail_deferred" if left.put_off else "mail_under_way"
                raise ApplicationError("some are left", type=kind, next_retry_delay=pause)
            return sent

    async def send_at_once(self, scope: Scope, subject_id: str) -> bool:
        """Send what is queued about a subject if the mail server takes it without delay; whether nothing is left.

        For a step that ends a process: what cannot be sent now stays queued for `send_notifications`, which tries for longer.
        """
        try:
            async with asyncio.timeout(AT_ONCE_SECONDS):
                _, left = await self._send_all(scope, subject_id, may_look=False)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a message, it must not hold up the money
            log.info("notifications.later", subject_id=subject_id, reason=type(error).__name__)
            return False
        return left is None

    async def _hand_over(self, task: NotificationTask) -> None:
        """Have a process of its own send what is left.

        It is named after the oldest message: while that is unsent, the process of its name still looks for more, and sends
        what was queued before this looked.
        """
        async with self._db.transaction(task.scope) as tx:
            left = await first_unsent(tx, task.subject_id)
            if left is not None:
                await send(
                    tx, task.scope, OutboxKind.START, "notices", f"{task.subject_id}/{left.oldest}",
                    workflow="NoticesWorkflow",
                    input=NotificationTask(scope=task.scope, subject_id=task.subject_id),
                )  # fmt: skip

    async def _send_all(self, scope: Scope, subject_id: str, *, may_look: bool = True) -> tuple[int, Unsent | None]:
        """Send until none may be tried now, or for as long as one try has; how many those were, and what is left."""
        sent, until = 0, time.monotonic() + TRY_SECONDS
        while True:
            self._pause.check(may_look=may_look)
            async with self._db.transaction(scope) as tx:
                waiting = await claim_queued(tx, subject_id, BATCH)
                people = {each.id: each for each in await users_of(tx, [each.user_id for each in waiting])}
            sent += await self._send_batch(scope, waiting, people)
            if len(waiting) == BATCH and time.monotonic() < until:
                continue
            async with self._db.transaction(scope) as tx:
                left = await first_unsent(tx, subject_id)
            if left is None or not waiting or time.monotonic() >= until:
                return sent, left

    async def _send_batch(self, scope: Scope, messages: Sequence[Notification], people: Mapping[str, User]) -> int:
        """Send them over as many lines as they are worth; how many lines in time said were accepted.

        A line that nobody waits for any more gives up what it has not given to the server. What it has, it waits for: nobody
        else sends that meanwhile.
        """
        lines = min(LINES_AT_ONCE, -(-len(messages) // MESSAGES_A_LINE))
        host, port = self._settings.smtp_host, self._settings.smtp_port
        parts = [_Part(MailLine(host, port), list(messages[n::lines])) for n in range(lines)]
        tasks = {asyncio.create_task(self._send_some(scope, part, people)): part for part in parts}
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=BATCH_SECONDS)
        finally:
            for task, part in tasks.items():
                if not task.done():
                    _let_go(task, part)
        ended = [task for task in tasks if task.done()]
        failures = [error for task in ended if (error := task.exception())]
        if failures:
            if any(isinstance(error, ApplicationError) for error in failures):
                self._pause.begin()
            raise failures[0]
        if ended:
            self._pause.end()
        return sum(task.result() for task in ended)

    async def _send_some(self, scope: Scope, part: _Part, people: Mapping[str, User]) -> int:
        """One message after the other over one line; how many were accepted. One that is not taken now holds up no other."""
        sent = 0
        async with self._leased(scope, part.waiting), part.line:
            while part.waiting:
                message = part.waiting[0]
                sent += await self._send_one(scope, part.line, message, people.get(message.user_id))
                part.waiting.remove(message)
        return sent

    async def _send_one(self, scope: Scope, line: MailLine, message: Notification, user: User | None) -> bool:
        """Whether it was accepted. Raises a retryable ApplicationError when the mail server takes no message at all."""
        code, again = "no_recipient", False
        if user is not None and user.disabled_at is None:
            try:
                code = await line.deliver(compose(message, user, self._settings.smtp_sender)) or ""
            except MailDeferred as error:
                code, again = error.code, True
            except ApplicationError:
                raise
            except Exception as error:  # noqa: BLE001 - a message that nobody can write must not stop the others
                code, again = type(error).__name__, True
        async with self._db.transaction(scope) as tx:
            if again:
                again = await put_off(tx, message.id, code)
            else:
                await settle_notification(tx, message.id, sent=not code, error_code=code or None)
        if code:
            log.warning("notifications.not_sent", notification=message.id, code=code, again=again)
        return not code

    @contextlib.asynccontextmanager
    async def _leased(self, scope: Scope, ours: list[Notification]) -> AsyncIterator[None]:
        """Keep the messages in `ours` from other senders; those still in it at the end are anybody's."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(RENEWED_SECONDS)
                try:
                    async with self._db.transaction(scope) as tx:
                        await renew_leases(tx, [each.id for each in ours])
                except (psycopg.OperationalError, PoolTimeout) as error:
                    log.info("notifications.not_renewed", reason=type(error).__name__)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
            if ours:
                async with self._db.transaction(scope) as tx:
                    await release_queued(tx, [each.id for each in ours])


def _let_go(task: asyncio.Task[int], part: _Part) -> None:
    """Nobody waits for this line: it ends, with the answer to the message it has given away if there is one."""
    if part.line.given:
        del part.waiting[1:]
    else:
        task.cancel()
    _ending.add(task)
    task.add_done_callback(_ended)


def _ended(task: asyncio.Task[int]) -> None:
    _ending.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("notifications.line_broke", reason=type(error).__name__)


async def last_answers() -> None:
    """Before the process ends: give mail servers a moment to say that they have what they were given."""
    if _ending:
        await asyncio.wait([*_ending], timeout=LAST_SECONDS)


def compose(message: Notification, user: User, sender: str) -> MIMEMultipart:
    """The email of one notification: subject from the template's first line, text and HTML bodies from the rest.

    Of the standard library's two kinds of message the older, which takes a fifth of the other's time.
    """
    params = dict(message.params)
    amount = format_money(params.pop("amount_minor"), params.pop("currency"))
    text = _TEMPLATES.get_template(f"{message.template}.txt").render(name=user.name, amount=amount, **params)
    first, _, body = text.partition("\n")
    subject = " ".join(first.removeprefix("Subject:").split())
    email = MIMEMultipart("alternative")
    email["From"], email["To"] = sender, user.email
    email["Subject"] = subject  # encoded on the way out where it is more than ASCII
    email["Message-ID"] = f"<{message.id}@chama>"
    email["Date"] = formatdate()
    html = _TEMPLATES.get_template("layout.html").render(subject=subject, paragraphs=body.strip().split("\n\n"))
    email.attach(MIMEText(body.strip() + "\n", "plain", "utf-8"))
    email.attach(MIMEText(html, "html", "utf-8"))
    return email
