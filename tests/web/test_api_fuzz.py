"""Requests made up from the API's own description: no server error, and answers that are as the description says.

Half of the requests get the ids of real things, so that bodies and queries meet the code behind the 404.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from gateway.web.api.all_routes import ROUTES
from gateway.web.openapi import describe
from tests.web.conftest import MakeSite
from tests.web.world import World, open_world, quarantine, send_answer

EXAMPLES = 15
STREAMS = "stream_events"  #: never ends
CHECKS = [not_a_server_error, response_schema_conformance, content_type_conformance]

bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


async def ids_of(world: World) -> dict[str, str]:
    """First part of a path -> what its parameter may name."""
    sent = await send_answer(world.site, world.support, world.people["ann"].id)
    return {
        "tickets": world.support.code,
        "messages": sent.message,
        "deliveries": sent.delivery,
        "ledger": await quarantine(world.site, world.support),
        "channels": world.support.channel,
        "attachments": world.support.attachment,
        "agents": world.people["ann"].public_id,
        "departments": world.support.department,
    }


def fuzz(origin: str, headers: dict[str, str], ids: dict[str, str]) -> int:
    """Try every operation; return how many requests were sent. Raises what the first check that fails raises."""
    schema = schemathesis.openapi.from_dict(describe(ROUTES))
    in_bodies = {"department": ids["departments"], "channel": ids["channels"], "agent": "me", "kind": "email"}
    sent = 0
    for found in schema.exclude(operation_id=STREAMS).get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @bounded
        @given(case=operation.as_strategy(), is_real=st.booleans())
        def attempt(case: Any, is_real: bool) -> None:
            nonlocal sent
            real = ids.get(case.path.split("/")[3])
            if is_real and case.path_parameters and real is not None:
                named = {"agent": ids["agents"]}
                case.path_parameters = {name: named.get(name, real) for name in case.path_parameters}
            if is_real and isinstance(case.body, dict):
                case.body |= {name: value for name, value in in_bodies.items() if name in case.body}
            response = case.call(base_url=origin, headers=headers, timeout=20)
            sent += 1
            case.validate_response(response, checks=CHECKS)

        attempt()
    return sent


@pytest.mark.proves("T-N07", "T-G10", "R13.1")
async def test_no_request_breaks_the_server_and_every_answer_is_as_described(make_site: MakeSite) -> None:
    world = await open_world(make_site)
    ids = await ids_of(world)
    sent = await asyncio.to_thread(fuzz, world.site.origin, world.headers["owner"], ids)
    assert sent >= len(ROUTES) * EXAMPLES // 2
