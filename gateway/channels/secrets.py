"""Taking the secrets out of a channel's configuration before it is stored, and putting them back to use it (T-G11)."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr

Model = TypeVar("Model", bound=BaseModel)


def split(config: BaseModel) -> tuple[dict[str, Any], dict[str, str]]:
    """Return (JSON without secrets, dotted path -> secret). Where a secret was stands an empty string."""
    secrets: dict[str, str] = {}
    _collect(config, "", secrets)
    plain = config.model_dump(mode="json")
    for path in secrets:
        _put(plain, path, "")
    return plain, secrets


def join(kind: type[Model], plain: dict[str, Any], secrets: dict[str, str]) -> Model:
    """Return the configuration with its secrets. Raises pydantic.ValidationError."""
    copy = _copy(plain)
    for path, value in secrets.items():
        _put(copy, path, value)
    return kind.model_validate(copy)


def keep_old(new: dict[str, str], old: dict[str, str]) -> dict[str, str]:
    """Secrets are write-only: one that comes back empty from a form is the one that is stored."""
    return {path: value or old.get(path, "") for path, value in new.items()}


def _collect(config: BaseModel, prefix: str, found: dict[str, str]) -> None:
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, SecretStr):
            found[prefix + name] = value.get_secret_value()
        elif isinstance(value, BaseModel):
            _collect(value, f"{prefix}{name}.", found)


def _put(tree: dict[str, Any], path: str, value: str) -> None:
    *parents, last = path.split(".")
    for name in parents:
        inner = tree.get(name)
        if not isinstance(inner, dict):
            return
        tree = inner
    tree[last] = value


def _copy(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: _copy(value) if isinstance(value, dict) else value for name, value in tree.items()}
