"""Emails: rendered from templates at send time, so that no personal data is stored with the message or in Temporal."""

import asyncio
import contextlib
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formatdate
from pathlib import Path
from typing import Final

import aiosmtplib
import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.effects import heartbeating
from contracts.base import Scope
from contracts.inbox import NotificationTask
from domain.money import format_money
from infra.database import Database
from infra.settings import Settings
from models.notification import Notification, claim_queued, settle_notification
from models.user import User, get_user

log = structlog.get_logger(__name__)
BATCH: Final = 50
MAX_BATCHES: Final = 10_000
AT_ONCE_SECONDS: Final = 2.0
_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    autoescape=select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
)


class NotificationActivities:
    """Sends what the money steps queued, by SMTP."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db, self._settings = db, settings

    @activity.defn
    async def send_notifications(self, task: NotificationTask) -> int:
        """Send every queued message about a subject; returns how many. A refused address is final, a dead server is not.

        A message whose sending was interrupted is sent again under the same Message-ID: mail has no other key.
        """
        sent = 0
        async with heartbeating():
            for _ in range(MAX_BATCHES):
                async with self._db.transaction(task.scope) as tx:
                    waiting = await claim_queued(tx, task.subject_id, BATCH)
                    people = {each.user_id: await get_user(tx, each.user_id) for each in waiting}
                for message in waiting:
                    sent += await self._send(task.scope, message, people[message.user_id])
                if len(waiting) < BATCH:
                    break
        return sent

    async def send_at_once(self, scope: Scope, subject_id: str) -> bool:
        """Send what is queued about a subject if the mail server takes it without delay; whether nothing is left.

        For a step that ends a process: what cannot be sent now stays queued for `send_notifications`, which tries for longer.
        """
        try:
            async with asyncio.timeout(AT_ONCE_SECONDS):
                await self.send_notifications(NotificationTask(scope=scope, subject_id=subject_id))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a message, it must not hold up the money
            log.info("notifications.later", subject_id=subject_id, reason=type(error).__name__)
            return False
        return True

    async def _send(self, scope: Scope, message: Notification, user: User | None) -> int:
        code: str | None = None
        if user is None or user.disabled_at is not None:
            code = "no_recipient"
        else:
            code = await self._deliver(compose(message, user, self._settings.smtp_sender))
        async with self._db.transaction(scope) as tx:
            await settle_notification(tx, message.id, sent=code is None, error_code=code)
        return int(code is None)

    async def _deliver(self, email: MIMEMultipart) -> str | None:
        """None when accepted, a code when refused for good; raises a retryable error when the server cannot take it now."""
        server = aiosmtplib.SMTP(
            hostname=self._settings.smtp_host, port=self._settings.smtp_port, timeout=10, start_tls=False
        )
        try:
            await server.connect()
            await server.send_message(email)
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):  # the message is theirs already
                await server.quit()
        except aiosmtplib.SMTPResponseException as error:
            if 500 <= error.code < 600:
                return f"smtp_{error.code}"
            raise ApplicationError(f"smtp_{error.code}", type="mail_deferred") from None
        except aiosmtplib.SMTPRecipientsRefused as error:
            if all(500 <= each.code < 600 for each in error.recipients):
                return f"smtp_{error.recipients[0].code}"
            raise ApplicationError("recipients deferred", type="mail_deferred") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise ApplicationError(type(error).__name__, type="mail_unreachable") from None
        finally:
            server.close()  # without a word: who gave up waiting does not wait for a farewell
        return None


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
