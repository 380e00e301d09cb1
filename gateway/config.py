"""What a process needs to know before it can read anything else: ``gatehouse.toml`` and ``GATEHOUSE_*``.

Everything else (departments, agents, mailboxes) is data, set in the console or the API. Made once, in ``cli.py``.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from gateway.errors import ConfigError

DEFAULT_FILE = Path("gatehouse.toml")


class Config(BaseSettings):
    """One frozen value for the whole process. Environment variables win over the file."""

    model_config = SettingsConfigDict(env_prefix="GATEHOUSE_", frozen=True, extra="forbid")

    store: str = Field("sqlite:///data/gatehouse.db", description="sqlite:///PATH or postgresql://USER@HOST:PORT/NAME")
    blobs: str = Field("data/blobs", description="folder for raw mails and attachments, or s3://BUCKET/PREFIX")
    key_file: Path = Field(Path("data/gatehouse.key"), description="made on first start, mode 0600; keep a copy")
    redis: SecretStr | None = Field(None, description="redis://HOST:PORT, only for several nodes")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on")
    public_url: str | None = Field(None, description="how browsers reach it; links are built from this alone")
    trusted_proxies: tuple[str, ...] = Field((), description="addresses whose X-Forwarded-For counts")
    node: str = Field("", description="name of this node in leases and attempts; the host name and process by default")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    parsers: int = Field(2, ge=1, le=32, description="processes that read mails")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = TomlConfigSettingsSource(settings_cls, toml_file=_config_file())
        return init_settings, env_settings, file

    @property
    def base_url(self) -> str:
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")


def load(**given: Any) -> Config:
    """Read the configuration; ``given`` (command-line options) wins. Raises ConfigError with every problem."""
    try:
        return Config(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
    except tomllib.TOMLDecodeError as error:
        problems = [f"{_config_file()}: {error}"]
    raise ConfigError(problems)


def _config_file() -> Path:
    return Path(os.environ.get("GATEHOUSE_CONFIG", DEFAULT_FILE))
