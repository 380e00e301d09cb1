"""What an operator does from the shell: migrate, look for trouble, replay the quarantine."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from core import channels, ledger
from core import keys as core_keys
from core.channels import Channel
from core.errors import CoreError
from core.keys import Keys, KeyUnusable
from core.store.blobs import open_blobs
from core.store.database import Database, PostgresDatabase, SqliteDatabase, StoreError, StoreInUse, open_database
from core.store.migrate import upgrade
from core.store.schema import ledger as ledger_table
from gateway.accounts import Accounts, configuration
from gateway.channels import email_imap, email_smtp
from gateway.channels.contract import Handover
from gateway.channels.email_config import EmailConfig
from gateway.channels.email_smtp import SmtpSender
from gateway.config import Config
from gateway.errors import ChannelError, ConfigError
from gateway.normalize.values import Address
from gateway.outbox.compose import OutgoingMail, compose


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at. ``words`` say what was found, or what to mend."""

    what: str
    words: str
    is_well: bool = True


async def migrate(config: Config) -> str:
    """Bring the store up to date and say what was done."""
    async with _store(config) as db:
        before, after = await upgrade(db)
    return f"the schema is {after}" if before == after else f"migrated from {before or 'nothing'} to {after}"


async def replay(config: Config, ids: Sequence[str] | None) -> list[str]:
    """Release ledger rows from the quarantine: those named, or all; one line each."""
    async with _store(config) as db:
        await upgrade(db)
        found = await db.read(_quarantined, ids)
        lines = [f"{name}: not in the quarantine" for name in set(ids or ()) - {row.public_id for row in found}]
        for row in found:
            try:
                await db.write(ledger.replay, row.id, now=db.clock.now())
                lines.append(f"{row.public_id}: will be read again")
            except CoreError as error:
                lines.append(f"{row.public_id}: {error}")
    return lines or ["the quarantine is empty"]


async def doctor(config: Config, *, test_address: str | None = None) -> list[Finding]:
    """Look at everything that a gateway needs. Sends mail only when ``test_address`` is given."""
    findings = [
        Finding(what="configuration", words=f"listens on {config.host}:{config.port}, store {_shown(config.store)}")
    ]
    try:
        keys = core_keys.load_or_make(config.key_file)
    except KeyUnusable as error:
        return [*findings, Finding(what="key", words=f"{error}. Put the key file back from a copy", is_well=False)]
    findings.append(_key_file(config))
    findings.append(await _blobs(config))
    try:
        async with _store(config) as db:
            before, after = await upgrade(db)
            moved = "" if before == after else f" (migrated from {before or 'nothing'})"
            findings.append(Finding(what="store", words=f"schema {after}{moved}"))
            await db.write(core_keys.check_owner, keys)
            findings += await _channels(db, keys, test_address)
    except StoreInUse:
        words = "in use by a running gateway: stop it, or ask its health page"
        findings.append(Finding(what="store", words=words, is_well=False))
    except (StoreError, KeyUnusable, DBAPIError, OSError) as error:
        findings.append(Finding(what="store", words=f"{type(error).__name__}: {str(error)[:300]}", is_well=False))
    return findings


def _shown(store: str) -> str:
    """The address of a store without the password that may stand in it."""
    head, slashes, rest = store.partition("://")
    login, at, place = rest.rpartition("@")
    user, colon, _password = login.partition(":")
    return f"{head}{slashes}{user}{':***' if colon else ''}{at}{place.partition('?')[0]}"


def _key_file(config: Config) -> Finding:
    mode = stat.S_IMODE(config.key_file.stat().st_mode)
    if mode & 0o077:
        words = f"others may read {config.key_file}: chmod 600 it"
        return Finding(what="key", words=words, is_well=False)
    return Finding(what="key", words=f"{config.key_file}; keep a copy, without it no secret can be opened")


async def _blobs(config: Config) -> Finding:
    """Write and read one blob, the way a mail is kept."""
    content = b"gatehouse doctor"
    try:
        blobs = open_blobs(config.blobs)
        digest = await blobs.put(content)
        is_same = digest == hashlib.sha256(content).hexdigest() and await blobs.get(digest) == content
        blobs.close()
        if not is_same:
            return Finding(what="blobs", words=f"{config.blobs} does not give back what was written", is_well=False)
    except OSError as error:
        return Finding(what="blobs", words=f"{config.blobs}: {error.strerror}", is_well=False)
    except Exception as error:  # noqa: BLE001 - a bucket fails in its library's own ways: whatever it says is the finding
        words = f"{config.blobs}: {type(error).__name__}: {str(error)[:300]}"
        return Finding(what="blobs", words=words, is_well=False)
    return Finding(what="blobs", words=f"{config.blobs} can be written and read")


async def _channels(db: Database, keys: Keys, test_address: str | None) -> list[Finding]:
    found = await db.read(channels.all_of, keys)
    if not found:
        return [Finding(what="channels", words="none yet: add a mailbox in the console")]
    findings = []
    accounts = Accounts(db=db, keys=keys)
    try:
        for channel in found:
            findings += await _channel(accounts, channel, test_address)
    finally:
        await accounts.close()
    return findings


async def _channel(accounts: Accounts, channel: Channel, test_address: str | None) -> list[Finding]:
    findings = []
    try:
        config = configuration(channel)
    except ValueError as error:
        return [Finding(what=channel.address, words=str(error), is_well=False)]
    for way, account, check in (("in", config.imap, email_imap.check), ("out", config.smtp, email_smtp.check)):
        what = f"{channel.address} {way}"
        if account is None:
            findings.append(Finding(what=what, words="not configured"))
            continue
        try:
            lines = await check(config, tokens=accounts.tokens(channel, account, "imap" if way == "in" else "smtp"))
            findings.append(Finding(what=what, words="; ".join(lines)))
        except ChannelError as error:
            findings.append(Finding(what=what, words=f"{error.code}: {error}", is_well=False))
        except ConfigError as error:
            findings.append(Finding(what=what, words=str(error), is_well=False))
    if test_address and config.smtp is not None:
        findings.append(await _send_test(accounts, channel, config, test_address))
    return findings


async def _send_test(accounts: Accounts, channel: Channel, config: EmailConfig, address: str) -> Finding:
    assert config.smtp is not None
    sender = SmtpSender(config, tokens=accounts.tokens(channel, config.smtp, "smtp"))
    now = accounts.clock.now()
    mail = OutgoingMail(
        sender_name=config.name,
        sender_address=config.address,
        to=(Address(address=address),),
        subject="A test from Gatehouse",
        text="This mail proves that Gatehouse can send from this address.",
        message_id=f"gatehouse-test-{now.timestamp()}@{config.address.rpartition('@')[2]}",
        date=now,
        auto_submitted="auto-generated",
    )
    handover = Handover(
        envelope_sender=config.address, recipients=(address,), content=compose(mail), envelope_id="gatehouse-test"
    )
    try:
        outcome = (await sender.send(handover, _no_promise))[address]
    finally:
        await sender.close()
    words = f"test mail to {address}: {outcome.kind} {outcome.code or ''} {outcome.text}"
    return Finding(what=f"{channel.address} out", words=words, is_well=outcome.kind == "accepted")


async def _no_promise(_accepted: Sequence[str]) -> None:
    """A test mail is in no outbox: there is no line of doubt to record."""


def _quarantined(conn: Connection, ids: Sequence[str] | None) -> Sequence[sa.Row[*tuple[object, ...]]]:
    query = sa.select(ledger_table.c.id, ledger_table.c.public_id).where(ledger_table.c.state == "quarantined")
    if ids is not None:
        query = query.where(ledger_table.c.public_id.in_(ids))
    return conn.execute(query.order_by(ledger_table.c.id)).all()


@asynccontextmanager
async def _store(config: Config) -> AsyncIterator[SqliteDatabase | PostgresDatabase]:
    db = open_database(config.store)
    try:
        yield db
    finally:
        await db.close()
