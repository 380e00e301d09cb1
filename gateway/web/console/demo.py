"""The other side of the demo: be a customer. Served only where a sandbox runs, and then to everybody.

Nothing here touches the desk but through the sandbox's mail servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import web
from pydantic import Field

from gateway.sandbox.stage import Stage
from gateway.web.api.schemas_common import FormInput
from gateway.web.console.forms import go
from gateway.web.console.frame import DEMO, files
from gateway.web.console.templating import draw
from gateway.web.problems import Problem, not_found
from gateway.web.routing import Policy, Request, Route, route

OPEN = Policy(who="public")


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """A mail to begin with."""

    title: str
    name: str
    address: str
    subject: str
    text: str


TEMPLATES: Sequence[Template] = (
    Template(
        title="A lost parcel",
        name="Mila Novak",
        address="mila.novak@customer.test",
        subject="Where is my parcel?",
        text="Hello,\n\nI ordered a teapot ten days ago (order 48299) and nothing has come.\n"
        "Could you find out where it is?\n\nMila Novak",
    ),
    Template(
        title="An address that will bounce",
        name="Gone Soon",
        address="gone@bounce.test",
        subject="Please write to me",
        text="Hi,\n\nplease answer this mail. My mailbox is about to disappear.\n",
    ),
    Template(
        title="A slow mail server",
        name="Slow Joe",
        address="slow@slow.test",
        subject="A question, no hurry",
        text="Good morning,\n\ndo you also sell left-handed mugs? My mail server takes its time.\n\nJoe",
    ),
    Template(
        title="Somebody on holiday",
        name="Ada Away",
        address="away@holiday.test",
        subject="Invoice 2031",
        text="Hi,\n\ncan you send me invoice 2031 again? I am leaving for two weeks tonight.\n\nAda",
    ),
)


class DemoQuery(FormInput):
    person: str = Field(default="", max_length=320)
    template: str = Field(default="", max_length=3)
    sent: str = Field(default="", max_length=3)


class WriteForm(FormInput):
    name: str = Field(default="", max_length=200)
    address: str = Field(default="", max_length=320)
    to: str = Field(default="", max_length=320)
    subject: str = Field(default="", max_length=500)
    text: str = Field(default="", max_length=100_000)


class ReplyForm(FormInput):
    person: str = Field(default="", max_length=320)
    mail: int = Field(default=0, ge=0, le=100_000)
    text: str = Field(default="", max_length=100_000)


def routes(stage: Stage) -> list[Route]:
    """Return the routes of the demo pages."""
    from gateway.sandbox.behaviours import BEHAVIOURS

    sandbox = stage.sandbox

    @route("GET", DEMO, policy=OPEN, query=DemoQuery, summary="Be a customer")
    async def get_demo(request: Request, query: DemoQuery) -> web.Response:
        number = int(query.template) if query.template.isdecimal() else 0
        context = {
            "stage": stage,
            "csrf": request.csrf or "",
            "now": request.now,
            "people": [(person, len(sandbox.postbox(person))) for person in sandbox.people()],
            "person": query.person,
            "mails": list(enumerate(sandbox.postbox(query.person)))[::-1] if query.person else [],
            "templates": TEMPLATES,
            "chosen": TEMPLATES[number] if number < len(TEMPLATES) else TEMPLATES[0],
            "chosen_number": number,
            "behaviours": BEHAVIOURS,
            "was_sent": bool(query.sent),
            "here": request.http.path_qs,
        }
        return draw("demo.html", files(request.services.assets) | context)

    @route("POST", "/demo/mails", policy=OPEN, form=WriteForm)
    async def post_mail(request: Request, form: WriteForm) -> web.Response:
        if form.to not in stage.desk_addresses:
            raise not_found()
        local, at, domain = form.address.strip().rpartition("@")
        if not (local and at and domain) or not form.address.strip().isascii():
            raise Problem(422, "invalid", "That is no mail address.", errors=[("address", "not a mail address")])
        try:
            await sandbox.write(form.name, form.address.strip(), form.to, form.subject, form.text)
        except ValueError as error:  # a header that the mail library refuses to write
            raise Problem(422, "invalid", "A mail cannot be written like this.") from error
        return go(f"{DEMO}?person={quote(form.address.strip())}&sent=yes")

    @route("POST", "/demo/replies", policy=OPEN, form=ReplyForm)
    async def post_reply(request: Request, form: ReplyForm) -> web.Response:
        try:
            await sandbox.reply(form.person, form.mail, form.text)
        except LookupError as error:
            raise not_found() from error
        return go(f"{DEMO}?person={quote(form.person)}&sent=yes")

    return [get_demo, post_mail, post_reply]
