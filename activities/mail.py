"""A line to the mail server: opened for the first message, kept for those after it."""

import contextlib
from email.mime.multipart import MIMEMultipart
from types import TracebackType
from typing import Any, Final, Self

import aiosmtplib
from temporalio.exceptions import ApplicationError

ANSWER_SECONDS: Final = 10
TAKING_SECONDS: Final = 600
"""For the answer to a whole message (RFC 5321, 4.5.3.2.6): who gives up earlier sends again what was taken."""
_CLOSING: Final = 421
"""The server ends the connection (RFC 5321, 3.8): after so many messages, or so long a time."""


class MailDeferred(Exception):
    """This message was not taken now; the next one may be. `code`: what the server said, or how its answer failed to come."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Server(aiosmtplib.SMTP):
    """The library's client, which tells its line how far a message has come, and waits for longer when it is given away."""

    line: "MailLine"

    async def rcpt(self, recipient: str, /, **options: Any) -> aiosmtplib.SMTPResponse:
        self.line.named = True
        return await super().rcpt(recipient, **options)

    async def data(self, message: str | bytes, /, **_: Any) -> aiosmtplib.SMTPResponse:
        self.line.given = True
        return await super().data(message, timeout=TAKING_SECONDS)


class MailLine:
    """`async with MailLine(host, port) as line`, then `await line.deliver(email)`, one message after the other.

    Connecting costs more than a message does, so a batch shares one connection. A server that has closed it between two
    messages is called again; nothing else is tried twice here.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._server: _Server | None = None
        self.named = False
        """Whether the server has heard whom the message under way is for: from then on its silence is about this message."""
        self.given = False
        """Whether the message under way was given to the server: from then on only its answer says what became of it."""

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

        Raises MailDeferred when the server cannot take this message now, and a retryable ApplicationError `mail_unreachable`
        when it takes none.
        """
        self.named = self.given = False
        try:
            await self._send(email)
        except aiosmtplib.SMTPRecipientsRefused as error:
            if _is_closing(error):
                raise _unreachable(error) from None
            return _refused(error.recipients[0].code)
        except (aiosmtplib.SMTPConnectResponseError, aiosmtplib.SMTPHeloError) as error:
            raise _unreachable(error) from None
        except aiosmtplib.SMTPResponseException as error:
            if _is_closing(error):
                raise _unreachable(error) from None
            return _refused(error.code)
        except (aiosmtplib.SMTPException, OSError) as error:
            self._hang_up()
            if self.named or isinstance(error, aiosmtplib.SMTPNotSupported):
                raise MailDeferred(type(error).__name__) from None
            raise _unreachable(error) from None
        return None

    async def _send(self, email: MIMEMultipart) -> None:
        if self._server is not None:
            try:
                await self._server.send_message(email)
                return
            except (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused) as error:
                if not _is_closing(error):
                    raise
            except (aiosmtplib.SMTPServerDisconnected, ConnectionError):
                if self.given:
                    raise
            self._hang_up()
        self.named = False
        self._server = _Server(hostname=self._host, port=self._port, timeout=ANSWER_SECONDS, start_tls=False)
        self._server.line = self
        await self._server.connect()
        await self._server.send_message(email)

    def _hang_up(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


def _is_closing(error: aiosmtplib.SMTPException) -> bool:
    code = (
        error.recipients[0].code
        if isinstance(error, aiosmtplib.SMTPRecipientsRefused)
        else getattr(error, "code", None)
    )
    return code == _CLOSING


def _refused(code: int) -> str:
    """The code of a refusal for good. Raises MailDeferred for any other."""
    if 500 <= code < 600:
        return f"smtp_{code}"
    raise MailDeferred(f"smtp_{code}") from None


def _unreachable(error: Exception) -> ApplicationError:
    return ApplicationError(type(error).__name__, type="mail_unreachable")
