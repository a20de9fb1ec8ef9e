"""Telling people with the step that moved their money: at once or later, and never at the money's cost."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.notifications import BATCH_SECONDS, TRY_SECONDS, NotificationActivities, compose, last_answers
from contracts.base import Scope
from contracts.ids import workflow_id
from contracts.inbox import NotificationTask
from infra.database import Database, fetch_one
from infra.settings import Settings
from models.notification import LEASE, TRIES, Notification, claim_queued, notify, put_off
from models.user import User
from tests.fixtures.mail import Exchange, mail_server
from tests.fixtures.pledges import add_user
from tests.fixtures.postgres import free_port
from workflows import options

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
PARAMS = {
    "amount_minor": 500, "currency": "NGN", "payment_id": "pay_1", "purpose": "deposit", "campaign": "", "code": "",
}  # fmt: skip


async def queued(database: Database, owner_url: str, scope: Scope, **changes: Any) -> None:
    payer = add_user(owner_url, scope)
    async with database.transaction(scope) as tx:
        await notify(
            tx, scope, subject_id="pay_1", user_id=payer, template="receipt", params=PARAMS | changes, as_of=NOW
        )


async def status(database: Database, scope: Scope) -> str:
    async with database.transaction(scope) as tx:
        row = await fetch_one(tx, "select status from notifications")
    assert row is not None
    return str(row["status"])


async def told(database: Database, scope: Scope, port: int) -> bool:
    subject = NotificationActivities(database, Settings(smtp_port=port))
    return bool(await ActivityEnvironment().run(subject.send_at_once, scope, "pay_1"))


async def test_a_dead_mail_server_leaves_the_message_to_the_step_that_waits(
    database: Database, owner_url: str, scope: Scope
) -> None:
    await queued(database, owner_url, scope)
    assert not await told(database, scope, free_port())
    assert await status(database, scope) == "queued", "whoever comes next need not wait for this sender"


async def test_what_is_left_goes_to_one_process(database: Database, owner_url: str, scope: Scope) -> None:
    """However often it is handed over, while its oldest message is unsent; with nothing left to nobody."""
    await queued(database, owner_url, scope)
    hurried = NotificationTask(scope=scope, subject_id="pay_1", hand_over=True)
    exchange = Exchange(8, politely=True)
    async with exchange.open() as port:
        for at in (free_port(), free_port(), port, port):
            subject = NotificationActivities(database, Settings(smtp_port=at))
            await ActivityEnvironment().run(subject.send_notifications, hurried)
    async with database.transaction(scope) as tx:
        rows = await (await tx.execute("select workflow_type, workflow_id, payload from outbox")).fetchall()
        message = await fetch_one(tx, "select id from notifications")
    assert message is not None and len(rows) == 2
    process = ("NoticesWorkflow", workflow_id("notices", scope, f"pay_1/{message['id']}"))
    assert {(row["workflow_type"], row["workflow_id"]) for row in rows} == {process}
    assert NotificationTask.model_validate(rows[0]["payload"]) == NotificationTask(scope=scope, subject_id="pay_1")
    assert len(exchange.taken) == 1


async def test_two_senders_send_each_message_once(
    database: Database, owner_url: str, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second finds the first at work, for longer than one lease lasts, and says that it must come again."""
    monkeypatch.setattr("activities.notifications.RENEWED_SECONDS", 0.2)
    monkeypatch.setattr("models.notification.LEASE", timedelta(seconds=1))
    await queued(database, owner_url, scope)
    exchange = Exchange(8, politely=True, answers_after=2.5)
    async with exchange.open() as port:
        subject = NotificationActivities(database, Settings(smtp_port=port))
        task = NotificationTask(scope=scope, subject_id="pay_1")
        first = asyncio.create_task(ActivityEnvironment().run(subject.send_notifications, task))
        await asyncio.sleep(1.8)
        with pytest.raises(ApplicationError) as refused:
            await ActivityEnvironment().run(subject.send_notifications, task)
        assert await first == 1
        assert await ActivityEnvironment().run(subject.send_notifications, task) == 0
    assert refused.value.type == "mail_under_way" and refused.value.next_retry_delay == timedelta(seconds=10)
    assert len(exchange.taken) == 1


async def test_a_dead_senders_messages_are_taken_up_again(database: Database, owner_url: str, scope: Scope) -> None:
    await queued(database, owner_url, scope)
    async with database.transaction(scope) as tx:
        assert len(await claim_queued(tx, "pay_1", 10)) == 1
        assert await claim_queued(tx, "pay_1", 10) == []
    async with database.transaction(scope) as tx:
        await tx.execute("update notifications set next_try_at = now()")
        assert len(await claim_queued(tx, "pay_1", 10)) == 1


async def test_a_silent_mail_server_is_not_waited_for(
    database: Database, owner_url: str, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.notifications.AT_ONCE_SECONDS", 0.5)
    await queued(database, owner_url, scope)
    heard: list[bytes] = []
    async with mail_server(b"250 hello\r\n", heard=heard) as port:
        assert not await told(database, scope, port)
        await last_answers()
    assert b"QUIT\r\n" not in heard, "a farewell would be waited for as long as any answer"
    assert await status(database, scope) == "queued"


async def test_what_the_server_was_given_is_not_sent_again_before_it_answers(
    database: Database, owner_url: str, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes longer than the step waits, and longer than any other answer may: the receipt is on its way all the same."""
    monkeypatch.setattr("activities.notifications.AT_ONCE_SECONDS", 1.5)
    monkeypatch.setattr("activities.mail.ANSWER_SECONDS", 1)
    await queued(database, owner_url, scope)
    exchange = Exchange(8, politely=True, answers_after=3)
    async with exchange.open() as port:
        assert not await told(database, scope, port)
        subject = NotificationActivities(database, Settings(smtp_port=port))
        task = NotificationTask(scope=scope, subject_id="pay_1")
        with pytest.raises(ApplicationError) as refused:
            await ActivityEnvironment().run(subject.send_notifications, task)
        assert refused.value.type == "mail_under_way"
        await last_answers()
    assert len(exchange.taken) == 1
    assert await status(database, scope) == "sent"


async def test_a_slow_line_is_left_to_its_message(
    database: Database, owner_url: str, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has not given away goes over another line, and each message is sent once."""
    monkeypatch.setattr("activities.notifications.BATCH_SECONDS", 0.5)
    monkeypatch.setattr("activities.notifications.RENEWED_SECONDS", 0.2)
    monkeypatch.setattr("models.notification.LEASE", timedelta(seconds=1))
    people = [add_user(owner_url, scope) for _ in range(2)]
    async with database.transaction(scope) as tx:
        for who in people:
            await notify(
                tx, scope, subject_id="pay_1", user_id=who, template="receipt", params=PARAMS, as_of=NOW, once=who
            )
    exchange = Exchange(8, politely=True, answers_after=4)
    async with exchange.open() as port:
        subject = NotificationActivities(database, Settings(smtp_port=port))
        while len(exchange.taken) < 2:
            with pytest.raises(ApplicationError):
                await ActivityEnvironment().run(
                    subject.send_notifications, NotificationTask(scope=scope, subject_id="pay_1")
                )
            await asyncio.sleep(0.2)
        async with database.transaction(scope) as tx:
            row = await fetch_one(tx, "select count(*) filter (where status = 'sent') as sent from notifications")
        assert row is not None and row["sent"] == 0, "the second went out while the first still waited for its answer"
        await last_answers()
    assert len(set(exchange.taken)) == len(exchange.taken) == 2


async def test_a_server_that_is_gone_after_it_took_the_message_has_taken_it(
    database: Database, owner_url: str, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent twice is worse than a farewell missed."""
    monkeypatch.setattr("activities.notifications.AT_ONCE_SECONDS", 60)
    await queued(database, owner_url, scope)
    ok = b"250 ok\r\n"
    async with mail_server(ok, ok, ok, b"354 go on\r\n", ok) as port:
        assert await told(database, scope, port)
    assert await status(database, scope) == "sent"


@pytest.mark.parametrize(("politely", "ends_at"), [(True, b"MAIL"), (False, b"MAIL"), (True, b"RCPT")])
async def test_many_messages_share_few_lines(
    database: Database, owner_url: str, scope: Scope, monkeypatch: pytest.MonkeyPatch, politely: bool, ends_at: bytes
) -> None:
    """Two lines carry twenty messages; a server that closes one after eight is called again, and each is sent once."""
    monkeypatch.setattr("activities.notifications.AT_ONCE_SECONDS", 60)
    people = [add_user(owner_url, scope) for _ in range(20)]
    async with database.transaction(scope) as tx:
        for who in people:
            await notify(
                tx, scope, subject_id="pay_1", user_id=who, template="receipt", params=PARAMS, as_of=NOW, once=who
            )
    exchange = Exchange(8, politely=politely, ends_at=ends_at)
    async with exchange.open() as port:
        assert await told(database, scope, port)
    assert exchange.connections == 4
    assert len(exchange.taken) == len(set(exchange.taken)) == 20


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        ("puts_off", "smtp_452"),
        ("hangs_up_on", "SMTPServerDisconnected"),
        ("breaks_on", "SMTPServerDisconnected"),
        ("unwritable", "InvalidMoney"),
    ],
)
async def test_one_message_holds_up_no_other(
    database: Database, owner_url: str, scope: Scope, trouble: str, code: str
) -> None:
    """The oldest is not taken: the others go out, it comes again later, and has failed after so many tries."""
    people = [add_user(owner_url, scope) for _ in range(3)]
    async with database.transaction(scope) as tx:
        for minute, who in enumerate(people):
            unwritable = {"currency": "nothing of the kind"} if trouble == "unwritable" and who == people[0] else {}
            await notify(
                tx, scope, subject_id="pay_1", user_id=who, template="receipt", params=PARAMS | unwritable,
                as_of=NOW + timedelta(minutes=minute), once=who,
            )  # fmt: skip
        row = await fetch_one(tx, "select email from users where id = %s", (people[0],))
    assert row is not None
    exchange = Exchange(8, politely=True, **({} if trouble == "unwritable" else {trouble: row["email"]}))

    async def seen() -> list[Any]:
        async with database.transaction(scope) as tx:
            query = """select status, error_code, tries, next_try_at > now() + interval '50 seconds' as later
                         from notifications order by created_at"""
            return [tuple(each.values()) for each in await (await tx.execute(query)).fetchall()]

    sent = ("sent", None, 1, None)
    async with exchange.open() as port:
        subject = NotificationActivities(database, Settings(smtp_port=port))
        for _ in range(2):
            with pytest.raises(ApplicationError) as left:
                await ActivityEnvironment().run(
                    subject.send_notifications, NotificationTask(scope=scope, subject_id="pay_1")
                )
            assert left.value.type == "mail_deferred"
            assert left.value.next_retry_delay is not None and left.value.next_retry_delay > timedelta(seconds=50)
            assert await seen() == [("queued", code, 1, True), sent, sent]
        async with database.transaction(scope) as tx:
            await tx.execute(
                "update notifications set tries = %s, next_try_at = now() where status = 'queued'", (TRIES - 1,)
            )
        await ActivityEnvironment().run(subject.send_notifications, NotificationTask(scope=scope, subject_id="pay_1"))
    assert await seen() == [("failed", code, TRIES, None), sent, sent]
    assert len(exchange.taken) == 2


async def test_a_server_that_takes_nothing_is_asked_by_one_at_a_time(
    database: Database, owner_url: str, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try holds a place that money steps need; who does not look is told when to come again, ever later."""
    later = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + later)
    monkeypatch.setattr("activities.notifications.time", clock)
    await queued(database, owner_url, scope)
    exchange = Exchange(0, politely=True)

    async def refused() -> float:
        with pytest.raises(ApplicationError) as error:
            await ActivityEnvironment().run(subject.send_notifications, task)
        assert error.value.type == "mail_unreachable"
        return error.value.next_retry_delay.total_seconds() if error.value.next_retry_delay else 0

    async with exchange.open() as port:
        subject, task = (
            NotificationActivities(database, Settings(smtp_port=port)),
            NotificationTask(scope=scope, subject_id="pay_1"),
        )
        assert await refused() == 0 and exchange.connections == 1
        assert 2 < await refused() <= 5 and exchange.connections == 1
        later = 1_000
        assert not await subject.send_at_once(scope, "pay_1") and exchange.connections == 1, "money does not look"
        delays = await asyncio.gather(*(refused() for _ in range(5)))
        assert exchange.connections == 2 and sorted(delays)[0] == 0 and 150 < sorted(delays)[1] <= max(delays) <= 300
        exchange.most, later = 8, 2_000
        assert await ActivityEnvironment().run(subject.send_notifications, task) == 1
        assert await subject.send_at_once(scope, "pay_1")


async def test_a_server_that_answers_nobody_gets_no_more(
    database: Database, owner_url: str, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message it was given and has not answered holds a line, for minutes."""
    monkeypatch.setattr("activities.notifications.ENDING_MOST", 0)
    await queued(database, owner_url, scope)
    exchange = Exchange(8, politely=True)
    async with exchange.open() as port:
        assert not await told(database, scope, port)
        monkeypatch.undo()
        assert exchange.connections == 0 and await told(database, scope, port)


async def test_a_message_is_put_off_ever_longer(database: Database, owner_url: str, scope: Scope) -> None:
    await queued(database, owner_url, scope)
    minutes = []
    async with database.transaction(scope) as tx:
        row = await fetch_one(tx, "select id from notifications")
        assert row is not None
        for _ in range(TRIES - 1):
            assert await put_off(tx, row["id"], "smtp_451")
            found = await fetch_one(
                tx, "select extract(epoch from next_try_at - now())::int / 60 as m from notifications"
            )
            assert found is not None
            minutes.append(found["m"])
        assert not await put_off(tx, row["id"], "smtp_451")
    assert minutes == [1, 2, 4, 8, 16, 32, 64, 128, 240, 240, 240]


async def test_a_message_nobody_can_write_holds_up_nothing(database: Database, owner_url: str, scope: Scope) -> None:
    await queued(database, owner_url, scope, currency="nothing of the kind")
    assert not await told(database, scope, free_port())


async def test_without_messages_nothing_is_left(database: Database, scope: Scope) -> None:
    assert await told(database, scope, free_port())


def test_a_try_ends_before_its_time_is_up() -> None:
    """With its last batch, and a lease's length to spare."""
    assert timedelta(seconds=TRY_SECONDS + BATCH_SECONDS) + LEASE < options.BATCH["start_to_close_timeout"]


def test_a_message_reads_as_it_was_written() -> None:
    """Whatever alphabet the campaign's title is in, and however long it is."""
    title = "Bäckerei Mòsúnmọ́lá " + "wheat and maize " * 12
    message = Notification(id="ntf_1", template="pledge_held", params=PARAMS | {"campaign": title})
    user = User(id="usr_1", name="Adé & Sons", email="ade@example.com", password_hash="", role="investor")
    raw = compose(message, user, "Chama <no-reply@example.com>").as_bytes()
    read = message_from_bytes(raw, policy=policy.default)
    assert isinstance(read, EmailMessage)
    subject = title.strip()
    assert subject in str(read["Subject"])
    assert (read["To"], read["Message-ID"]) == ("ade@example.com", "<ntf_1@chama>")
    plain, html = (read.get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None and "Adé & Sons" in plain.get_content()
    assert html is not None and "Adé &amp; Sons" in html.get_content()
