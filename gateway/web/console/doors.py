"""Sign-in, set-up and refusals: pages for somebody who is not in yet, or cannot go on."""

from __future__ import annotations

from aiohttp import web
from yarl import URL

from gateway.sandbox.stage import Stage
from gateway.web import security, sign_in
from gateway.web.console.frame import files
from gateway.web.console.templating import draw
from gateway.web.problems import Problem
from gateway.web.routing import Request, Route
from gateway.web.server import SERVICES
from gateway.web.sign_in import Door

TITLES = {
    400: "That did not work",
    401: "Please sign in",
    403: "You may not do this",
    404: "There is nothing here",
    409: "Somebody was faster",
    413: "That is too large",
    422: "Something has to be put right",
    429: "Too fast",
    500: "Something went wrong here",
    503: "Not available at the moment",
}


def routes(stage: Stage | None) -> list[Route]:
    def draw_sign_in(request: Request, door: Door) -> web.Response:
        return draw("sign_in.html", _around(request) | {"door": door, "stage": stage})

    def draw_setup(request: Request, door: Door) -> web.Response:
        return draw("setup.html", _around(request) | {"door": door})

    return sign_in.routes(draw_sign_in=draw_sign_in, draw_setup=draw_setup)


def draw_problem(request: web.Request, problem: Problem, ref: str) -> web.StreamResponse:
    """A refusal as a page. Who is not signed in is led to the door and back."""
    if problem.status == 401 and request.method in security.SAFE_METHODS and not _is_part(request):
        target = security.local_path(request.path_qs)
        place = URL(sign_in.SIGN_IN).with_query(next=target) if target != sign_in.HOME else URL(sign_in.SIGN_IN)
        return web.Response(status=303, headers={"Location": str(place)})
    is_in = problem.status != 401
    context = files(request.app[SERVICES].assets) | {
        "problem": problem,
        "title": TITLES.get(problem.status, problem.title),
        "ref": ref,
        "home": "/" if is_in else sign_in.SIGN_IN,
        "way_out": "Back to the inbox" if is_in else "Sign in",
    }
    response = draw("problem.html", context, status=problem.status)
    response.headers.update(problem.headers)
    return response


def _is_part(request: web.Request) -> bool:
    """Frames, images, streams and scripts' own requests get the refusal itself, not a page to sign in."""
    if "text/event-stream" in request.headers.get("Accept", ""):
        return True
    return request.headers.get("Sec-Fetch-Dest", "document") not in ("document", "empty")


def _around(request: Request) -> dict[str, object]:
    return {**files(request.services.assets), "csrf": request.csrf or ""}
