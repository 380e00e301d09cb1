"""What an email channel needs to know: one mailbox in (IMAP) and one road out (SMTP).

The JSON schema of these models draws the form in the console. Secrets are ``SecretStr``: they are sealed in the store
and never shown again (T-G11).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Port = Annotated[int, Field(ge=1, le=65535)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OAuth(Strict):
    """XOAUTH2 by refresh token (RFC 6749); ``token_url`` is only set for sovereign clouds and tests."""

    provider: Literal["google", "microsoft"]
    client_id: str
    client_secret: SecretStr | None = None
    refresh_token: SecretStr
    tenant: str = "organizations"
    token_url: str | None = None


class Account(Strict):
    """How to reach and enter one server. Plain is for a server on this machine: it sends the password in clear."""

    host: str
    port: Port
    security: Literal["tls", "starttls", "plain"] = "tls"
    user: str | None = None
    password: SecretStr | None = None
    oauth: OAuth | None = None
    ca_file: str | None = None  #: a private certificate authority, PEM
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0


class Imap(Account):
    folders: tuple[str, ...] = ("INBOX",)
    after: Literal["leave", "seen", "move", "delete"] = "leave"
    move_to: str | None = None
    order: Literal["oldest", "newest"] = "oldest"  #: of a backlog
    poll_seconds: Annotated[float, Field(gt=0, le=300)] = 240.0
    idle_seconds: Annotated[float, Field(gt=0, le=1740)] = 540.0
    max_raw_bytes: Annotated[int, Field(ge=1)] = 35 * 1024 * 1024  #: the desk sets narrower bounds
    authserv_id: str | None = None  #: whose Authentication-Results count (T-A08)


class Smtp(Account):
    connections: Annotated[int, Field(ge=1, le=32)] = 4
    dsn: bool = True
    notify_success: bool = False  #: ask for a report of success too: one more mail into the mailbox for each answer
    final_reply_seconds: Annotated[float, Field(gt=0, le=1800)] = 600.0  #: RFC 5321 section 4.5.3.2.6
    per_hour: Annotated[int | None, Field(ge=1)] = None  #: R5.10


class EmailConfig(Strict):
    """One email channel. ``address`` is where customers write to and what answers come from."""

    address: str
    name: str = ""
    aliases: tuple[str, ...] = ()  #: other own addresses of the same mailbox
    plus_addressing: bool = True  #: the server delivers support+token@ to support@
    imap: Imap | None = None
    smtp: Smtp | None = None
    in_doubt: Literal["hold", "resend-once"] = "hold"  #: FAULTS section 4.2
    retry_days: Annotated[float, Field(gt=0, le=14)] = 3.0  #: R5.4
    delayed_after: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(hours=3)  #: R5.3
    undo_seconds: Annotated[int, Field(ge=0, le=120)] = 5  #: R5.9
