"""Channels at the desk: configured accounts, whose secrets go in and never come out (T-G11)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy import Connection

from core import audit, channels, departments, events, listing, throttle
from core.access import Action, Actor, ChannelRef, may, require, visible_departments
from core.audit import By
from core.errors import Conflict, Invalid
from core.keys import Keys
from core.store.schema import channel, ledger, message, outbox, ticket
from gateway.accounts import account_name, configuration
from gateway.channels import secrets
from gateway.channels.email_config import Account, EmailConfig
from gateway.channels.registry import ADAPTERS
from gateway.errors import ChannelError
from gateway.normalize.addresses import identity_key
from gateway.web.desk.sight import department_in_sight
from gateway.web.problems import Problem

TESTS = 10  #: free ones in a window of ``core.throttle`` (T-H07)
TEST_SECONDS = 60.0
DELAYED_AFTER = (timedelta(minutes=1), timedelta(days=14))
RAW_BYTES = (1024 * 1024, 200 * 1024 * 1024)

#: What a person has to look at, by the code of the trouble. The server's own words are not shown (T-H07).
WORDS: Mapping[str, str] = {
    "login": "The server refuses the user name or the password, or asks for another way to log in.",
    "tls": "No safe connection: the certificate or the encryption of the server does not fit the settings.",
    "connection": "The server cannot be reached: look at its name and port, and whether a firewall is in between.",
    "timeout": "The server did not answer in time: look at its name and port.",
    "throttled": "The server asks to come back later.",
    "folder": "A folder cannot be opened: look at the names of the folders.",
    "protocol": "What answers there is not the kind of server that the settings say.",
    "oauth": "The sign-in service gave no token; try again later.",
    "oauth_client": "The sign-in service does not accept our client: look at its id and secret.",
    "token_revoked": "The consent was withdrawn: give it again.",
    "wrong_mailbox": "The consent was given for another mailbox.",
    "sender": "The server does not let us send from this address.",
    "relay": "The server does not pass on our mail.",
}
OTHER = ("other", "The test ended with trouble that has no words yet; the log of the program holds more.")

Check = Callable[[EmailConfig], Awaitable[Sequence[str]]]


class StaleChannel(Conflict):
    """Made to an older version; ``current`` is the channel as it is now (T-N08)."""

    code = "stale"

    def __init__(self, current: sa.RowMapping) -> None:
        super().__init__("somebody changed the channel meanwhile: look at it again")
        self.current = current


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a channel is made of; ``department`` is a public id. ``config`` as the JSON schema of its kind says."""

    name: str
    department: str
    config: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelChange:
    """What is not None is changed. In ``config``, all of it, a secret that is "" stays as it is."""

    name: str | None = None
    department: str | None = None
    is_enabled: bool | None = None
    config: Mapping[str, Any] | None = None
    version: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """``findings`` where it works; otherwise a ``code`` and words for it."""

    is_working: bool
    findings: Sequence[str] = ()
    code: str = ""
    text: str = ""


def channel_list(conn: Connection, actor: Actor, *, limit: int, after_id: int = 0) -> list[sa.RowMapping]:
    require(actor, Action.CHANNEL_READ)
    return listing.channels(conn, visible_departments(actor), limit=limit, after_id=after_id)


def channel_view(conn: Connection, actor: Actor, channel_id: str) -> sa.RowMapping:
    """Return a channel with its states and its configuration, without the secrets. Raises NotFound."""
    return _row(conn, actor, channel_id, Action.CHANNEL_READ)


def create(conn: Connection, by: By, keys: Keys, kind: str, given: Settings) -> sa.RowMapping:
    """Raises NotFound, Invalid, Conflict."""
    require(by.actor, Action.CHANNEL_MANAGE)
    department_id = department_in_sight(conn, by.actor, given.department)
    require(by.actor, Action.CHANNEL_MANAGE, ChannelRef(department_id=department_id))
    config = read_config(kind, given.config)
    _check_owners_part(by.actor, None, config)
    plain, sealed = secrets.split(config)
    made = channels.add(
        conn,
        keys,
        kind=kind,
        name=_checked_name(given.name),
        address=_address(config),
        department_id=department_id,
        config=plain,
        secrets=sealed,
        account=account_name(config),
        now=by.now,
    )
    row = conn.execute(sa.select(channel.c.public_id).where(channel.c.id == made)).one()
    after = {"kind": kind, "name": given.name, "department": given.department, "config": plain}
    audit.append(conn, by, "channel.create", f"channel:{row.public_id}", before={}, after=after)
    return listing.channel_by_public_id(conn, row.public_id, None)


def change(conn: Connection, by: By, keys: Keys, channel_id: str, wanted: ChannelChange) -> sa.RowMapping:
    """Raises NotFound, Invalid, StaleChannel, Conflict."""
    before = _locked(conn, by.actor, channel_id)
    if wanted.version not in (None, before["version"]):
        raise StaleChannel(before)
    values: dict[str, Any] = {}
    if wanted.name is not None:
        values["name"] = _checked_name(wanted.name)
    if wanted.is_enabled is not None:
        values["is_enabled"] = wanted.is_enabled
    if wanted.department is not None:
        values["department_id"] = department_in_sight(conn, by.actor, wanted.department)
    sealed = None
    if wanted.config is not None:
        config = read_config(before["kind"], wanted.config)
        old = channels.get(conn, keys, before["id"])
        plain, sealed = secrets.split(config)
        stored = _stored_config(old)
        _check_owners_part(by.actor, stored, config)
        _check_kept(stored, config, sealed, old.secrets)
        sealed = secrets.keep_old(sealed, old.secrets)
        values |= {"config": plain, "account": account_name(config), "address": _address(config)}
        _check_address_free(conn, values["address"], before["id"])
    has_new_secrets = sealed is not None and sealed != channels.get(conn, keys, before["id"]).secrets
    values = {name: value for name, value in values.items() if before[name] != value}
    if not values and not has_new_secrets:
        return before
    channels.change(conn, keys, before["id"], now=by.now, secrets=sealed, **values)
    after = values | ({"secrets": "changed"} if has_new_secrets else {})
    shown = {name: before[name] for name in values}
    audit.append(conn, by, "channel.change", f"channel:{channel_id}", before=shown, after=after)
    return listing.channel_by_public_id(conn, channel_id, None)


def remove(conn: Connection, by: By, channel_id: str) -> None:
    """Remove a channel that nothing ever came in or went out by. Raises Conflict for any other: switch it off."""
    row = _locked(conn, by.actor, channel_id)
    for table in (ledger, ticket, message, outbox):
        if conn.execute(sa.select(table.c.id).where(table.c.channel_id == row["id"]).limit(1)).first():
            raise Conflict("mail came in or went out by this channel: switch it off instead")
    conn.execute(sa.delete(channel).where(channel.c.id == row["id"]))
    events.append(conn, events.CHANNEL_CHANGED, now=by.now, data={"removed": channel_id})
    before = {"kind": row["kind"], "name": row["name"], "config": row["config"]}
    audit.append(conn, by, "channel.remove", f"channel:{channel_id}", before=before, after={})


def channel_to_poll(conn: Connection, actor: Actor, channel_id: str) -> int:
    """Return the inner id of a channel that may be asked to look for mail now. Raises NotFound."""
    return int(_row(conn, actor, channel_id, Action.CHANNEL_MANAGE)["id"])


def allow_test(conn: Connection, by: By, channel_id: str) -> None:
    """Count one test, in a transaction of its own. Raises NotFound, Throttled."""
    _row(conn, by.actor, channel_id, Action.CHANNEL_TEST)
    throttle.count(conn, [throttle.Limit(key=f"channel_test:{by.actor.agent_id}", tries=TESTS)], by.now)
    audit.append(conn, by, "channel.test", f"channel:{channel_id}", before={}, after={})


def configuration_to_test(conn: Connection, actor: Actor, keys: Keys, channel_id: str) -> EmailConfig:
    """Return the whole configuration, secrets too: for ``test`` alone. Raises NotFound, Conflict."""
    row = _row(conn, actor, channel_id, Action.CHANNEL_TEST)
    try:
        return configuration(channels.get(conn, keys, row["id"]))
    except ValueError as error:
        raise Conflict("the stored configuration cannot be used any more: save it anew") from error


async def test(check: Check, config: EmailConfig) -> Tested:
    """Try the servers; say whether it works, or what to mend in our own words (T-H07)."""
    try:
        async with asyncio.timeout(TEST_SECONDS):
            return Tested(is_working=True, findings=tuple(await check(config)))
    except TimeoutError:
        return Tested(is_working=False, code="timeout", text=WORDS["timeout"])
    except ChannelError as error:
        code, text = (error.code, WORDS[error.code]) if error.code in WORDS else OTHER
        return Tested(is_working=False, code=code, text=text)


def read_config(kind: str, given: Mapping[str, Any]) -> EmailConfig:
    """Raises Invalid, naming fields and no values."""
    adapter = ADAPTERS.get(kind)
    if adapter is None:
        raise Invalid("there is no such kind of channel", fields={"kind": "not one of " + ", ".join(sorted(ADAPTERS))})
    try:
        config = adapter.config.model_validate_json(orjson.dumps(given))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        fields = {".".join(["config", *map(str, item["loc"])]): item["msg"] for item in found}
        raise Invalid("the configuration cannot be used", fields=fields) from None
    assert isinstance(config, EmailConfig)
    if not DELAYED_AFTER[0] <= config.delayed_after <= DELAYED_AFTER[1]:
        raise Invalid("the configuration cannot be used", fields={"config.delayed_after": "a minute to 14 days"})
    if config.imap is not None and not RAW_BYTES[0] <= config.imap.max_raw_bytes <= RAW_BYTES[1]:
        raise Invalid("the configuration cannot be used", fields={"config.imap.max_raw_bytes": "1 to 200 MiB"})
    return config


def _row(conn: Connection, actor: Actor, channel_id: str, action: Action) -> sa.RowMapping:
    require(actor, action)
    row = listing.channel_by_public_id(conn, channel_id, visible_departments(actor))
    require(actor, action, ChannelRef(department_id=row["department_id"]))
    return row


def _locked(conn: Connection, actor: Actor, channel_id: str) -> sa.RowMapping:
    conn.execute(sa.select(channel.c.id).where(channel.c.public_id == channel_id).with_for_update())
    return _row(conn, actor, channel_id, Action.CHANNEL_MANAGE)


def _stored_config(found: channels.Channel) -> EmailConfig | None:
    """None where an older version stored what this one cannot read any more."""
    try:
        return EmailConfig.model_validate(found.config)
    except ValidationError:
        return None


def _check_owners_part(actor: Actor, old: EmailConfig | None, new: EmailConfig) -> None:
    """Whom the program trusts with secrets, and which of its files it reads, an owner decides (T-G11, T-L06).

    Raises Problem 403 naming the fields. To take such a setting away is nobody's danger.
    """
    before = _owners_part(old) if old is not None else {}
    fields = [name for name, value in _owners_part(new).items() if value is not None and value != before.get(name)]
    if fields and not may(actor, Action.SETTING_MANAGE):
        errors = [(name, "only an owner may set this") for name in fields]
        raise Problem(403, "forbidden", "Some of these settings are the owner's.", errors=errors)


def _owners_part(config: EmailConfig) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    accounts: tuple[tuple[str, Account | None], ...] = (("imap", config.imap), ("smtp", config.smtp))
    for way, account in accounts:
        if account is not None:
            found[f"config.{way}.ca_file"] = account.ca_file
            found[f"config.{way}.oauth.token_url"] = account.oauth.token_url if account.oauth else None
    return found


def _check_kept(old: EmailConfig | None, new: EmailConfig, given: Mapping[str, str], stored: Mapping[str, str]) -> None:
    """A secret that stays goes only where it went before: another server or user needs it typed again (T-G11)."""
    ways: tuple[tuple[str, Account | None, Account | None], ...] = (
        ("imap", old.imap if old else None, new.imap),
        ("smtp", old.smtp if old else None, new.smtp),
    )
    fields = {}
    for way, before, after in ways:
        if after is None or (before is not None and _goes_to(before) == _goes_to(after)):
            continue
        for path, value in given.items():
            if path.startswith(f"{way}.") and not value and stored.get(path):
                fields[f"config.{path}"] = "give it again: it would go to another server or user"
    if fields:
        raise Invalid("the secrets have to be given again", fields=fields)


def _goes_to(account: Account) -> tuple[object, ...]:
    target: tuple[object, ...] = (account.host, account.port, account.security, account.user, account.ca_file)
    oauth = account.oauth
    if oauth is None:
        return target
    return (*target, oauth.provider, oauth.client_id, oauth.tenant, oauth.token_url)


def _address(config: EmailConfig) -> str:
    key = identity_key(config.address)
    if key is None:
        raise Invalid("this is no mail address", fields={"config.address": "not a mail address"})
    return key


def _check_address_free(conn: Connection, address: str, own_id: int) -> None:
    query = sa.select(channel.c.id).where(channel.c.address == address, channel.c.id != own_id)
    if conn.execute(query).first():
        raise Conflict(f"another channel has the address {address}")


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > departments.MAX_NAME:
        raise Invalid("a name is needed", fields={"name": f"1 to {departments.MAX_NAME} characters"})
    return name
