"""The channels API: settings whose secrets never come back, states, and test buttons that tell no banners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import audit, channels
from core.errors import Invalid
from gateway.channels.email_config import EmailConfig, Imap, OAuth
from gateway.errors import ChannelMisconfigured, PeerBroke
from gateway.web.desk import channels as desk
from tests.web.conftest import MakeSite
from tests.web.world import PASSWORD_CANARY, World, open_world

BANNER = "220 router.internal SSH-2.0 secret banner"


def settings(address: str = "new@desk.test", **imap: Any) -> dict[str, Any]:
    account = {"host": "imap.test", "port": 993, "user": "new", "password": "fresh-canary"}
    return {"address": address, "imap": account | imap, "smtp": None}


async def secrets_of(world: World, channel_id: int) -> dict[str, str]:
    found = await world.site.services.db.read(channels.get, world.site.services.keys, channel_id)
    return found.secrets


@pytest.mark.proves("R1.5", "T-G11")
async def test_channel_is_added_read_and_never_gives_its_secret_back(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    body = {"kind": "email", "name": "New", "department": world.sales.department, "config": settings("New@Desk.TEST")}
    status, made = await world.call("admin", "POST", "/channels", body, Idempotency_Key="c")
    assert (status, made["address"], made["way_in"]["state"]) == (201, "new@desk.test", "starting")
    assert made["config"]["imap"]["password"] == ""
    assert await world.call("admin", "POST", "/channels", body, Idempotency_Key="c") == (201, made)
    assert (await world.call("admin", "POST", "/channels", body))[0] == 409
    assert await world.call("admin", "GET", f"/channels/{made['id']}") == (200, made)
    _, listed = await world.call("admin", "GET", "/channels?limit=2")
    _, rest = await world.call("admin", "GET", f"/channels?limit=2&cursor={listed['next']}")
    assert [item["name"] for item in listed["items"] + rest["items"]] == ["Support", "Sales", "New"]
    entries = await world.site.services.db.read(audit.entries)
    for told in (made, listed, rest, entries):
        assert "canary" not in str(told)


@pytest.mark.proves("T-G11")
async def test_empty_secret_keeps_the_stored_one(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    path = f"/channels/{world.support.channel}"
    _, shown = await world.call("admin", "GET", path)
    config = shown["config"] | {"name": "Help desk"}
    status, changed = await world.call("admin", "PATCH", path, {"config": config, "version": shown["version"]})
    assert (status, changed["config"]["name"], changed["version"]) == (200, "Help desk", 2)
    assert await secrets_of(world, world.support.channel_id) == {
        "imap.password": PASSWORD_CANARY,
        "smtp.password": PASSWORD_CANARY,
    }
    config["smtp"]["password"] = "another-canary"
    assert (await world.call("admin", "PATCH", path, {"config": config}))[0] == 200
    assert (await secrets_of(world, world.support.channel_id))["smtp.password"] == "another-canary"
    status, problem = await world.call("admin", "PATCH", path, {"config": config, "version": 1})
    assert (status, problem["code"], problem["current"]["version"]) == (409, "stale", 3)
    assert problem["current"] == (await world.call("admin", "GET", path))[1]
    assert "canary" not in str(problem)


@pytest.mark.proves("T-G11")
@pytest.mark.parametrize(
    "elsewhere", [{"host": "evil.test"}, {"port": 2525}, {"security": "plain"}, {"user": "mallory"}]
)
async def test_stored_secret_goes_to_no_other_server(make_site: MakeSite, elsewhere: dict[str, Any]) -> None:
    world = await open_world(make_site)
    path = f"/channels/{world.support.channel}"
    _, shown = await world.call("admin", "GET", path)
    config = shown["config"] | {"smtp": shown["config"]["smtp"] | elsewhere}
    status, problem = await world.call("admin", "PATCH", path, {"config": config})
    assert (status, problem["errors"][0]["field"]) == (422, "config.smtp.password")
    assert await world.call("admin", "GET", path) == (200, shown)
    config["smtp"]["password"] = "given-again"
    assert (await world.call("admin", "PATCH", path, {"config": config}))[0] == 200


@pytest.mark.proves("T-G12", "T-N07")
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "pigeon"}, "kind"),
        ({"config": {}}, "config.address"),
        ({"config": settings("nobody")}, "config.address"),
        ({"config": settings(port=0)}, "config.imap.port"),
        ({"config": settings(host=None)}, "config.imap.host"),
        ({"config": settings() | {"sudo": 1}}, "config.sudo"),
        ({"config": settings() | {"delayed_after": "P99999D"}}, "config.delayed_after"),
        ({"department": None}, "department"),
        ({"version": 1}, "version"),
    ],
)
async def test_settings_that_cannot_be_used_are_refused_by_field(
    make_site: MakeSite, change: dict[str, Any], field: str
) -> None:
    world = await open_world(make_site)
    body = {"kind": "email", "name": "New", "department": world.sales.department, "config": settings()} | change
    status, problem = await world.call("admin", "POST", "/channels", body)
    assert (status, problem["errors"][0]["field"]) == (422, field)
    assert "canary" not in str(problem)


LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=20)
)
NAMES = st.sampled_from([*EmailConfig.model_fields, *Imap.model_fields, *OAuth.model_fields]) | st.text(max_size=5)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6))


@pytest.mark.proves("T-N07", "T-G11")
@given(given_config=st.dictionaries(NAMES, VALUES, max_size=8), is_near=st.booleans())
def test_any_settings_are_read_or_refused_by_field(given_config: dict[str, Any], is_near: bool) -> None:
    near = settings(password="canary-canary") if is_near else {}
    refusals: list[dict[str, str]] = []
    try:
        desk.read_config("email", near | given_config)
    except Invalid as refused:
        refusals.append(refused.fields)
    assert all(refusals)
    assert "canary" not in str(refusals)


@pytest.mark.proves("R1.6")
async def test_used_channel_is_switched_off_and_only_an_unused_one_removed(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    path = f"/channels/{world.support.channel}"
    assert (await world.call("admin", "DELETE", path))[0] == 409
    status, off = await world.call("admin", "PATCH", path, {"is_enabled": False})
    assert (status, off["is_enabled"]) == (200, False)
    body = {"kind": "email", "name": "New", "department": world.sales.department, "config": settings()}
    _, made = await world.call("admin", "POST", "/channels", body)
    assert (await world.call("admin", "DELETE", f"/channels/{made['id']}"))[0] == 204
    assert (await world.call("admin", "GET", f"/channels/{made['id']}"))[0] == 404


@pytest.mark.proves("T-H07")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ChannelMisconfigured(BANNER, code="login"), "login"),
        (PeerBroke(BANNER, code="protocol"), "protocol"),
        (PeerBroke(BANNER, code=BANNER), "other"),
    ],
)
async def test_failed_test_tells_a_code_and_our_words_alone(make_site: MakeSite, error: Exception, code: str) -> None:
    async def check(config: EmailConfig) -> Sequence[str]:
        assert config.smtp is not None
        assert config.smtp.password is not None
        assert config.smtp.password.get_secret_value() == PASSWORD_CANARY
        raise error

    world = await open_world(make_site, check_channel=check)
    status, told = await world.call("admin", "POST", f"/channels/{world.support.channel}/test")
    assert (status, told["is_working"], told["code"], told["findings"]) == (200, False, code, [])
    assert told["text"]
    assert "banner" not in str(told)


@pytest.mark.proves("T-H07")
async def test_tests_are_counted_and_refused_past_the_limit(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    path = f"/channels/{world.support.channel}/test"
    answers = [await world.call("admin", "POST", path) for _ in range(11)]
    assert [status for status, _ in answers] == [200] * 10 + [429]
    assert answers[0][1] == {"is_working": True, "findings": ["it answers"], "code": "", "text": ""}


@pytest.mark.proves("R1.5")
@pytest.mark.parametrize("is_here", [True, False])
async def test_poll_says_whether_anybody_listens(make_site: MakeSite, is_here: bool) -> None:
    asked: list[int] = []

    def poll(channel_id: int) -> bool:
        asked.append(channel_id)
        return is_here

    world = await open_world(make_site, poll_now=poll)
    assert await world.call("admin", "POST", f"/channels/{world.sales.channel}/poll") == (200, {"is_asked": is_here})
    assert asked == [world.sales.channel_id]


@pytest.mark.proves("T-G11")
async def test_schema_of_a_kind_marks_its_secrets(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    _, kinds = await world.call("admin", "GET", "/channel-kinds")
    (email,) = kinds["items"]
    assert email["capabilities"]["attachments"] is True
    password = email["config_schema"]["$defs"]["Imap"]["properties"]["password"]
    assert {option.get("writeOnly") for option in password["anyOf"]} == {True, None}
