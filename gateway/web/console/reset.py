"""The page behind a one-time link: an agent sets their password, and then signs in with it.

Opening it uses nothing up: programs that look at links in messages before people do may look (T-L03).
"""

from __future__ import annotations

from aiohttp import web
from pydantic import Field

from core import reset_links, throttle
from core.agents import Agent
from core.errors import CoreError
from core.reset_links import LinkVoid
from gateway.web import sign_in
from gateway.web.api.schemas_common import FormInput
from gateway.web.console.forms import go
from gateway.web.console.frame import files
from gateway.web.console.templating import draw
from gateway.web.problems import Problem, problem_of
from gateway.web.routing import Policy, Request, route
from gateway.web.services import PEOPLE

ANYBODY = Policy(who="public")
TRIES = 20


class PasswordForm(FormInput):
    password: str = Field(default="", max_length=10_000)


def link(request: Request, code: str) -> str:
    """The address of the page; its host is the configured one, whatever the request says (T-C07)."""
    return f"{request.services.config.base_url}/reset/{code}"


@route("GET", "/reset/{code}", policy=ANYBODY, summary="Set a password")
async def get_reset(request: Request) -> web.Response:
    try:
        return _draw(request, await _whose(request))
    except CoreError as error:
        return _draw(request, None, problem_of(error))


@route("POST", "/reset/{code}", policy=ANYBODY, form=PasswordForm)
async def post_reset(request: Request, form: PasswordForm) -> web.Response:
    target = None
    try:
        target = await _whose(request)
        hashed = await request.services.passwords.hash(form.password)
        await request.write(reset_links.use, request.by, request.params["code"], hashed)
    except CoreError as error:
        return _draw(request, None if isinstance(error, LinkVoid) else target, problem_of(error))
    request.services.live.wake(PEOPLE)
    return go(sign_in.SIGN_IN)


async def _whose(request: Request) -> Agent:
    limit = throttle.Limit(key=f"reset:{throttle.prefix(request.address)}", tries=TRIES)
    await request.write(throttle.count, [limit], request.now)
    return await request.read(reset_links.whose, request.params["code"], request.now)


def _draw(request: Request, target: Agent | None, problem: Problem | None = None) -> web.Response:
    context = {**files(request.services.assets), "csrf": request.csrf or "", "target": target, "problem": problem}
    status = problem.status if problem is not None else 200
    response = draw("reset.html", {**context, "code": request.params["code"]}, status=status)
    response.headers.update(problem.headers if problem is not None else {})
    return response


ROUTES = [get_reset, post_reset]
