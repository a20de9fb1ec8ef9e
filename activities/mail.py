"""A line to the mail server: opened for the first message, kept for those after it."""

import contextlib
from email.mime.multipart import MIMEMultipart
from types import TracebackType
from typing import Final, Self

import aiosmtplib
from temporalio.exceptions import ApplicationError

ANSWER_SECONDS: Final = 10
_CLOSING: Final = 421
"""The server ends the connection (RFC 5321, 3.8): after so many messages, or so long a time."""


class MailLine:
    """`async with MailLine(host, port) as line`, then `await line.deliver(email)`, one message after the other.

    Connecting costs more than a message does, so a batch shares one connection. A server that has closed it between two
    messages is called again; nothing else is tried twice here.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._server: aiosmtplib.SMTP | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take leave of the server, unless something went wrong: who gave up waiting does not wait for a farewell."""
        if self._server is not None and kind is None:
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):  # the messages are theirs already
                await self._server.quit()
        self._hang_up()

    async def deliver(self, email: MIMEMultipart) -> str | None:
        """None when accepted, a code when refused for good.

        Raises a retryable ApplicationError `mail_deferred` or `mail_unreachable` when the server cannot take it now.
        """
        try:
            await self._send(email)
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
        return None

    async def _send(self, email: MIMEMultipart) -> None:
        if self._server is not None:
            try:
                await self._server.send_message(email)
                return
            except aiosmtplib.SMTPResponseException as error:
                if error.code != _CLOSING:
                    raise
            except (aiosmtplib.SMTPServerDisconnected, ConnectionError):
                pass
            self._hang_up()
        self._server = aiosmtplib.SMTP(hostname=self._host, port=self._port, timeout=ANSWER_SECONDS, start_tls=False)
        await self._server.connect()
        await self._server.send_message(email)

    def _hang_up(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
