"""Settings of a channel that only an owner decides, and the bounds of the others."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import Invalid
from gateway.web.desk import channels as desk
from tests.web.conftest import MakeSite, make_site
from tests.web.test_channels_api import settings
from tests.web.world import open_world

__all__ = ["make_site"]  # the fixture

OAUTH = {"provider": "google", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
OWNERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("config.imap.ca_file", {"ca_file": "/etc/shadow"}),
    ("config.imap.oauth.token_url", {"password": None, "oauth": OAUTH | {"token_url": "https://evil.test/token"}}),
)


@pytest.mark.proves("T-G11", "T-L06", "T-H07")
@pytest.mark.parametrize(("field", "imap"), OWNERS)
async def test_trust_and_where_tokens_go_are_set_by_an_owner_alone(
    make_site: MakeSite, field: str, imap: dict[str, Any]
) -> None:
    world = await open_world(make_site)
    body = {"kind": "email", "name": "New", "department": world.sales.department, "config": settings(**imap)}
    status, problem = await world.call("admin", "POST", "/channels", body)
    assert (status, problem["code"], [item["field"] for item in problem["errors"]]) == (403, "forbidden", [field])
    _, listed = await world.call("admin", "GET", "/channels")
    assert len(listed["items"]) == 2
    status, made = await world.call("owner", "POST", "/channels", body)
    assert status == 201

    path = f"/channels/{made['id']}"
    config = made["config"]
    kept = config | {"name": "Other"}
    assert (await world.call("admin", "PATCH", path, {"config": kept}))[0] == 200  # what stands there may stay
    name = field.rpartition(".")[2]
    holder = config["imap"] if name == "ca_file" else config["imap"]["oauth"]
    holder[name] = "https://elsewhere.test/x" if name == "token_url" else "/etc/passwd"
    holder |= {
        secret: "given-again" for secret in ("password", "refresh_token", "client_secret") if holder.get(secret) == ""
    }
    status, problem = await world.call("admin", "PATCH", path, {"config": config})
    assert (status, [item["field"] for item in problem["errors"]]) == (403, [field])
    assert (await world.call("owner", "PATCH", path, {"config": config}))[0] == 200


@pytest.mark.proves("T-G11")
async def test_an_admin_may_take_a_private_authority_away(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    body = {
        "kind": "email",
        "name": "New",
        "department": world.sales.department,
        "config": settings(ca_file="/etc/ca.pem"),
    }
    _, made = await world.call("owner", "POST", "/channels", body)
    config = settings(ca_file=None)
    status, changed = await world.call("admin", "PATCH", f"/channels/{made['id']}", {"config": config})
    assert (status, changed["config"]["imap"]["ca_file"]) == (200, None)


MIB = 1024 * 1024
SMTP: dict[str, Any] = {"host": "smtp.test", "port": 465}


@pytest.mark.proves("T-N07", "R5.10")
@pytest.mark.parametrize(
    ("config", "field"),
    [
        (settings(max_raw_bytes=MIB), None),
        (settings(max_raw_bytes=MIB - 1), "config.imap.max_raw_bytes"),
        (settings(max_raw_bytes=200 * MIB), None),
        (settings(max_raw_bytes=200 * MIB + 1), "config.imap.max_raw_bytes"),
        (settings() | {"smtp": SMTP | {"per_hour": 1}}, None),
        (settings() | {"smtp": SMTP | {"per_hour": 0}}, "config.smtp.per_hour"),
        (settings() | {"smtp": SMTP | {"per_hour": -5}}, "config.smtp.per_hour"),
        (settings() | {"delayed_after": "PT1M"}, None),
        (settings() | {"delayed_after": "PT0S"}, "config.delayed_after"),
        (settings() | {"delayed_after": "-P1D"}, "config.delayed_after"),
    ],
)
def test_bounds_of_settings(config: dict[str, Any], field: str | None) -> None:
    refused: dict[str, str] = {}
    try:
        desk.read_config("email", config)
    except Invalid as error:
        refused = error.fields
    assert list(refused) == ([field] if field else [])
