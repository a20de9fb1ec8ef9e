"""A mail server that accepts everything and shows it: the sandbox's stand-in for the outside world's inboxes.

A message is in the book before `250 OK` is said.
"""

import asyncio
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from sandbox.book import Book, Tx


class MailSink:
    """The SMTP listener. `port` is the real port once started."""

    def __init__(self, book: Book, host: str, port: int) -> None:
        self._book = book
        self._host = host
        self.port = port
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Port 0 takes a free one."""
        from aiosmtpd.smtp import SMTP  # only here: a sandbox without mail starts without it

        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, enable_SMTPUTF8=True, data_size_limit=10_000_000, ident="sandbox mail"),
            self._host,
            self.port,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Keep one message."""
        raw = envelope.content if isinstance(envelope.content, bytes) else str(envelope.content).encode()
        message = message_from_bytes(raw, policy=policy.default)
        assert isinstance(message, EmailMessage)
        row = (
            str(envelope.mail_from or ""),
            "\n".join(envelope.rcpt_tos),
            str(message["subject"] or ""),
            _part(message, "plain"),
            _part(message, "html"),
            str(message["message-id"] or ""),
            datetime.now(UTC).isoformat(),
        )
        await self._book.run(lambda tx: _keep(tx, row))
        return "250 OK"


def _part(message: EmailMessage, kind: str) -> str:
    part = message.get_body(preferencelist=("plain",) if kind == "plain" else ("html",))
    return str(part.get_content()) if part is not None else ""


def _keep(tx: Tx, row: tuple[str, ...]) -> None:
    sql = "insert into mails (sender, recipients, subject, text, html, message_id, received_at) values (?,?,?,?,?,?,?)"
    tx.run(sql, *row)


def inbox(tx: Tx, to: str | None, limit: int = 200) -> list[dict[str, Any]]:
    """Mails, oldest first; `to` narrows to one recipient (without regard to case)."""
    query = "select * from mails order by id desc limit ?"
    params: tuple[Any, ...] = (limit,)
    if to is not None:  # one address a line
        query = query.replace(" order", " where instr(char(10) || lower(recipients) || char(10), ?) > 0 order")
        params = (f"\n{to.lower()}\n", limit)
    return [
        {
            "from": row["sender"],
            "to": row["recipients"].split("\n"),
            **{name: row[name] for name in ("subject", "text", "html", "message_id", "received_at")},
        }
        for row in reversed(tx.rows(query, *params))
    ]
