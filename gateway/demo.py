"""``gatehouse demo``: the whole gateway with a mail server of its own, a seeded desk and customers who write."""

from __future__ import annotations

import random
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy import Connection

from core import agents, channels, departments
from core.access import Actor, ActorKind, Role
from core.audit import By
from core.keys import Keys
from core.passwords import Passwords
from core.store.schema import agent, channel, department
from gateway import config as configuration
from gateway.accounts import account_name
from gateway.app import House, open_house
from gateway.channels import secrets
from gateway.channels.email_config import EmailConfig, Imap, Smtp
from gateway.config import Config
from gateway.errors import ConfigError
from gateway.normalize.addresses import identity_key
from gateway.sandbox.stage import Stage
from gateway.serving import listening, say, set_up_logs, until_stopped

PASSWORD = "gatehouse-demo"  # noqa: S105 - shown on the sign-in page; the demo listens on this machine only
MAILBOX_PASSWORD = "mailbox"  # noqa: S105


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    email: str
    name: str
    alias: str
    role: Role
    departments: tuple[str, ...] = ()


DEPARTMENTS = {"Support": "support@desk.test", "Sales": "sales@desk.test"}
SIGNATURES = {
    "Support": "Customer support, The Corner Shop\nWe answer on working days from 9 to 17",
    "Sales": "Sales, The Corner Shop",
}
PEOPLE = (
    Person(email="owner@desk.test", name="Olga Owner", alias="Olga", role=Role.OWNER),
    Person(email="admin@desk.test", name="Adam Admin", alias="Adam", role=Role.ADMIN),
    Person(email="ana@desk.test", name="Ana Petrova", alias="Ana", role=Role.AGENT, departments=("Support",)),
    Person(email="ben@desk.test", name="Ben Jonas", alias="Ben", role=Role.AGENT, departments=("Sales",)),
    Person(email="cara@desk.test", name="Cara Novak", alias="Cara", role=Role.AGENT, departments=("Support", "Sales")),
)


async def run(*, host: str | None, port: int | None, data: Path | None, seed: int) -> None:
    """Run the demo until Ctrl-C. Raises ConfigError where the extra ``sandbox`` is not installed."""
    set_up_logs("warning")
    try:
        from gateway.sandbox import customers
        from gateway.sandbox.mail_server import MailSandbox
    except ModuleNotFoundError as error:
        problem = f"the demo needs the extra 'sandbox' ({error.name}): pip install 'gatehouse[sandbox]'"
        raise ConfigError([problem]) from None
    async with AsyncExitStack() as stack:
        folder = data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatehouse-demo-")))
        settings = demo_config(folder, host=host, port=port)
        users = dict.fromkeys(DEPARTMENTS.values(), MAILBOX_PASSWORD)
        sandbox = await stack.enter_async_context(MailSandbox(desk_users=users, greylisted_tries=1))
        house = await stack.enter_async_context(open_house(settings))
        await seed_desk(house, imap_port=sandbox.imap_port, smtp_port=sandbox.smtp_port)
        stage = Stage(
            sandbox=sandbox,
            desk_addresses=tuple(DEPARTMENTS.values()),
            logins=tuple((person.email, person.role.value) for person in PEOPLE),
            password=PASSWORD,
        )
        address = await stack.enter_async_context(listening(house, stage))
        await customers.play(sandbox, rng=random.Random(seed))  # noqa: S311 - who writes when, in a demo
        say(f"\n  Gatehouse demo: {address}\n")
        for person in PEOPLE:
            say(f"    {person.role.value:6} {person.email:18} password {PASSWORD}")
        say(f"\n  Be a customer: {address}/demo   (customers write by themselves too)\n  Ctrl-C ends it.\n")
        await until_stopped(house)


def demo_config(folder: Path, *, host: str | None = None, port: int | None = None) -> Config:
    """A configuration whose data all live in ``folder``."""
    return configuration.load(
        host=host,
        port=port,
        store=f"sqlite:///{(folder / 'gatehouse.db').absolute()}",
        blobs=str(folder / "blobs"),
        key_file=folder / "gatehouse.key",
    )


async def seed_desk(house: House, *, imap_port: int, smtp_port: int) -> None:
    """Make departments, agents and their channels; on data that exist only the ports are brought up to date."""
    passwords = Passwords()
    try:
        password_hash = await passwords.hash(PASSWORD)
    finally:
        passwords.close()
    await house.db.write(_seed, house.keys, house.clock.now(), password_hash, imap_port, smtp_port)
    house.hub.wake("channels")


def _seed(conn: Connection, keys: Keys, now: datetime, password_hash: str, imap_port: int, smtp_port: int) -> None:
    by = By(actor=Actor(kind=ActorKind.SYSTEM, name="demo"), now=now, key=keys.audit)
    made: dict[str, departments.Department] = {}
    for name in DEPARTMENTS:
        known = conn.execute(sa.select(department.c.public_id).where(department.c.name == name)).scalar()
        if known is None:
            new = departments.create(conn, by, name=name)
            made[name] = departments.change(conn, by, new.public_id, signature=SIGNATURES[name])
        else:
            made[name] = departments.get(conn, by.actor, known)
    for person in PEOPLE:
        if conn.execute(sa.select(agent.c.id).where(agent.c.email == person.email)).first() is None:
            added = agents.create(
                conn, by, email=person.email, name=person.name, alias=person.alias, role=person.role,
                password_hash=password_hash,
            )  # fmt: skip
            for name in person.departments:
                departments.add_member(conn, by, made[name].public_id, added.public_id)
    for name, address in DEPARTMENTS.items():
        _seed_channel(conn, keys, by, made[name].id, name, address, imap_port, smtp_port)


def _seed_channel(
    conn: Connection, keys: Keys, by: By, department_id: int, name: str, address: str, imap_port: int, smtp_port: int
) -> None:
    secret = SecretStr(MAILBOX_PASSWORD)
    config = EmailConfig(
        address=address,
        name=f"{name}, The Corner Shop",
        imap=Imap(host="127.0.0.1", port=imap_port, security="plain", user=address, password=secret),
        smtp=Smtp(host="127.0.0.1", port=smtp_port, security="plain", user=address, password=secret),
    )
    plain, sealed = secrets.split(config)
    key = identity_key(address) or address
    known = conn.execute(sa.select(channel.c.id).where(channel.c.address == key)).scalar()
    if known is None:
        channels.add(
            conn, keys, kind="email", name=name, address=key, department_id=department_id, config=plain,
            secrets=sealed, account=account_name(config), now=by.now,
        )  # fmt: skip
    else:
        channels.change(conn, keys, known, now=by.now, config=plain, secrets=sealed, account=account_name(config))
