"""The adapters: one literal table. A new channel is one module, one line here, one folder of fixtures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from gateway.channels.contract import Capabilities
from gateway.channels.email_config import EmailConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """What a kind of channel is called, can do and needs to know."""

    kind: str
    title: str
    config: type[BaseModel]
    capabilities: Capabilities


ADAPTERS: Mapping[str, Adapter] = {
    "email": Adapter(
        kind="email",
        title="Email",
        config=EmailConfig,
        capabilities=Capabilities(
            html=True,
            attachments=True,
            max_attachment_bytes=25 * 1024 * 1024,
            receipts=True,
            several_recipients=True,
        ),
    ),
}
