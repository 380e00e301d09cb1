"""What a process needs to know before it can read anything else: ``gatehouse.toml`` and ``GATEHOUSE_*``.

Everything else (departments, agents, mailboxes) is data, set in the console or the API. Made once, in ``cli.py``.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from gateway.errors import ConfigError

DEFAULT_FILE = Path("gatehouse.toml")
FILE_VARIABLE = "GATEHOUSE_CONFIG"


class Config(BaseSettings):
    """One frozen value for the whole process. Environment variables win over the file."""

    model_config = SettingsConfigDict(env_prefix="GATEHOUSE_", frozen=True, extra="forbid")

    store: str = Field("sqlite:///data/gatehouse.db", description="sqlite:///PATH or postgresql://USER@HOST:PORT/NAME")
    blobs: str = Field("data/blobs", description="folder for raw mails and attachments, or s3://BUCKET/PREFIX")
    key_file: Path = Field(Path("data/gatehouse.key"), description="made on first start, mode 0600; keep a copy")
    redis: SecretStr | None = Field(
        None, description="redis://HOST:PORT; nodes look at the store every few seconds without it"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on")
    public_url: str | None = Field(None, description="how browsers reach it; links are built from this alone")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="addresses or networks whose X-Forwarded-For counts; with commas in between"
    )
    node: str = Field("", description="name of this node in leases and attempts; the host name and process by default")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    parsers: int = Field(2, ge=1, le=32, description="processes that read mails")

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_proxies(cls, given: Any) -> Any:
        return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        """A proxy that is mistyped would be found out by the first request, or never (T-L12)."""
        for proxy in given:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError as error:
                raise ValueError(f"{proxy!r} is no IP address or network") from error
        return given

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, given: str | None) -> str | None:
        if given is None:
            return None
        try:
            parts = urlsplit(given)
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_url = False
        if not is_url or parts.query or parts.fragment or parts.username:
            raise ValueError("not like https://desk.example.com")
        return given

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
    file = _config_file()
    if FILE_VARIABLE in os.environ and not file.is_file():
        raise ConfigError([f"{file}: there is no such file, but {FILE_VARIABLE} names it"])
    try:
        return Config(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}" for item in found]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems = [f"{file}: {error}"]
    except OSError as error:
        problems = [f"{file}: {error.strerror}"]
    raise ConfigError(problems)


def _config_file() -> Path:
    return Path(os.environ.get(FILE_VARIABLE, DEFAULT_FILE))
