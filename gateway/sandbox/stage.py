"""The sandbox as the console's demo pages see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the extra ``sandbox`` is needed only where a demo runs
    from gateway.sandbox.mail_server import MailSandbox


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What the page "be a customer" works with, and the logins that the sign-in page shows."""

    sandbox: MailSandbox
    desk_addresses: tuple[str, ...]
    logins: tuple[tuple[str, str], ...]  #: (address, role in words)
    password: str
