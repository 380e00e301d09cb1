"""What the API says of tickets, messages, deliveries, the ledger and channels, and how each is made from its row.

``Output.of`` takes rows and views of ``gateway.web.desk``: inner ids stay inside, only public ids and codes leave.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field
from sqlalchemy import RowMapping

from core.delivery import Status
from core.figures import ChannelLedger, DeliveryFigures
from gateway.channels.registry import Adapter
from gateway.outbox import verdicts
from gateway.web.api.schemas_common import Output
from gateway.web.desk.channels import Tested
from gateway.web.desk.deliveries import DeliveryReport, RawReport
from gateway.web.desk.stale import StaleTicket
from gateway.web.desk.tickets import Hint, MessageView, TicketView
from gateway.web.openapi import ProblemOut
from gateway.web.problems import Problem

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)


def _within_time(value: datetime) -> datetime:
    if not EARLIEST <= value <= LATEST:
        raise ValueError("not between the years 1970 and 9998")
    return value.astimezone(UTC)


#: A moment with an offset, in years that every store can hold.
Moment = Annotated[AwareDatetime, AfterValidator(_within_time)]
DeliveryStatus = Status
TicketStatus = Literal["new", "open", "answered", "postponed", "resolved", "closed", "spam", "deleted"]
SettableStatus = Literal["open", "postponed", "resolved", "closed", "spam", "deleted"]
LedgerState = Literal["received", "gap", "done", "quarantined", "dismissed"]
LedgerOutcome = Literal["ticketed", "repeat", "own_copy", "evidence", "skipped"]


class Named(Output):
    id: str
    name: str


def named(row: RowMapping, what: str) -> Named | None:
    """``what_public_id`` and ``what_name`` of a row, if there is such a thing."""
    public_id = row[f"{what}_public_id"]
    return Named(id=public_id, name=row[f"{what}_name"]) if public_id is not None else None


def surely_named(row: RowMapping, what: str) -> Named:
    return Named(id=row[f"{what}_public_id"], name=row[f"{what}_name"])


class Person(Output):
    name: str
    address: str


class TicketOut(Output):
    code: str
    subject: str
    status: TicketStatus
    department: Named
    agent: Named | None
    contact: Named
    delivery_status: DeliveryStatus | None = Field(description="of the newest answer")
    language: str | None
    version: int = Field(description="give it back with a change: an old one is refused")
    created_at: datetime
    updated_at: datetime
    last_in_at: datetime | None
    last_out_at: datetime | None
    closed_at: datetime | None

    @classmethod
    def of(cls, row: RowMapping) -> TicketOut:
        return cls(**_ticket(row))


def _ticket(row: RowMapping) -> dict[str, Any]:
    names = ("code", "subject", "status", "delivery_status", "language", "version")
    times = ("created_at", "updated_at", "last_in_at", "last_out_at", "closed_at")
    return {name: row[name] for name in (*names, *times)} | {
        "department": surely_named(row, "department"),
        "agent": named(row, "agent"),
        "contact": surely_named(row, "contact"),
    }


class ParticipantOut(Output):
    name: str
    address: str
    role: str
    is_confirmed: bool = Field(description="False: a mail named them, and they get nothing yet")
    is_suppressed: bool = Field(description="mail to them came back before")


class HintOut(Output):
    code: str
    text: str
    ticket: str | None
    message: str | None
    address: str | None

    @classmethod
    def of(cls, hint: Hint) -> HintOut:
        return cls(
            code=hint.code, text=hint.text, ticket=hint.ticket_code, message=hint.message_id, address=hint.address
        )


class TicketDetail(TicketOut):
    people: list[ParticipantOut]
    hints: list[HintOut]
    actions: list[str] = Field(description="what you may do: `answer`, `change`")

    @classmethod
    def of_view(cls, view: TicketView) -> TicketDetail:
        people = [
            ParticipantOut(
                name=row["name"],
                address=row["address"],
                role=row["role"],
                is_confirmed=row["is_confirmed"],
                is_suppressed=row["suppressed_at"] is not None,
            )
            for row in view.people
        ]
        hints = [HintOut.of(hint) for hint in view.hints]
        return cls(**_ticket(view.row), people=people, hints=hints, actions=sorted(view.actions))


class MissedOut(Output):
    """Something that happened since the version that the caller saw."""

    at: datetime
    by: str = Field(description="a colleague's name; empty where nobody of the house did it")
    what: str = Field(description="in plain words, e.g. `moved it to Sales`")


class StaleTicketOut(ProblemOut):
    """A 409 with the code `stale`: the ticket as it is now, and what was missed, newest first."""

    model_config = ConfigDict(title="StaleTicket")

    current: TicketOut
    missed: list[MissedOut]


def stale_problem(stale: StaleTicket) -> Problem:
    missed = [MissedOut(at=item.at, by=item.by, what=item.what) for item in stale.missed]
    more = {
        "current": TicketOut.of(stale.current).model_dump(mode="json", by_alias=True),
        "missed": [item.model_dump(mode="json") for item in missed],
    }
    return Problem(409, stale.code, str(stale), more=more)


class TicketChanged(Output):
    ticket: TicketOut | None = Field(description="null: it went to a department that you do not see")


class FileOut(Output):
    id: str
    name: str
    content_type: str = Field(description="as its sender declared it")
    size_bytes: int
    is_inline: bool
    content_id: str | None

    @classmethod
    def of(cls, row: RowMapping) -> FileOut:
        names = ("name", "content_type", "size_bytes", "is_inline", "content_id")
        return cls(id=row["public_id"], **{name: row[name] for name in names})


class RecipientOut(Output):
    """One delivery, inside its message."""

    id: str
    kind: Literal["to", "cc", "bcc"]
    name: str
    address: str
    status: DeliveryStatus
    detail: str
    reason: str
    status_since_at: datetime

    @classmethod
    def of(cls, row: RowMapping) -> RecipientOut:
        names = ("kind", "name", "address", "status", "detail", "reason", "status_since_at")
        return cls(id=row["public_id"], **{name: row[name] for name in names})


class IndicatorOut(Output):
    """All recipients in one."""

    status: DeliveryStatus
    text: str
    counts: dict[DeliveryStatus, int]


class OutboxOut(Output):
    state: Literal["waiting", "leased", "doubt", "held", "done", "cancelled"]
    due_at: datetime
    give_up_at: datetime
    attempts: int
    round: int
    held_why: str = Field(description="a reason word, e.g. `ticket_moved`; empty unless it is held")
    held_because: str = Field(description="the same in plain words")
    hold_if_they_write: bool

    @classmethod
    def of(cls, row: RowMapping) -> OutboxOut:
        names = [name for name in cls.model_fields if name != "held_because"]
        return cls(**{name: row[name] for name in names}, held_because=verdicts.why_held(row["held_why"]))


class MessageOut(Output):
    id: str
    ticket: str
    direction: Literal["in", "out"]
    author: Named | None = Field(description="the agent who wrote it")
    sender: Person
    sender_state: str = Field(description="whether the sender is proven: verified, not_verified, unclear, unknown")
    to: list[Person]
    cc: list[Person]
    reply_to: list[Person]
    subject: str
    text: str = Field(description="the whole body")
    html: str | None = Field(description="cleaned; show it in a sandboxed frame")
    reply_text: str = Field(description="the words that are new")
    reply_html: str | None
    quoted_text: str
    signature_text: str
    language: str | None
    is_held_aside: bool
    is_quiet: bool
    message_id_header: str | None
    threading: dict[str, Any] = Field(description="why it stands in this ticket")
    automatic: dict[str, Any]
    warnings: list[str]
    files: list[FileOut]
    deliveries: list[RecipientOut]
    indicator: IndicatorOut | None
    outbox: OutboxOut | None
    actions: list[str]
    date_at: datetime | None = Field(description="what its Date header says")
    created_at: datetime

    @classmethod
    def of(cls, view: MessageView, ticket: str) -> MessageOut:
        row = view.row
        names = (
            "direction", "sender_state", "subject", "text", "html", "reply_text", "reply_html", "quoted_text",
            "signature_text", "language", "is_held_aside", "is_quiet", "message_id_header", "threading", "automatic",
            "warnings", "date_at", "created_at",
        )  # fmt: skip
        indicator = view.indicator
        return cls(
            **{name: row[name] for name in names},
            id=row["public_id"],
            ticket=ticket,
            author=named(row, "agent"),
            sender=Person(name=row["from_name"], address=row["from_address"]),
            to=_people(row["to"]),
            cc=_people(row["cc"]),
            reply_to=_people(row["reply_to"]),
            files=[FileOut.of(item) for item in view.files],
            deliveries=[RecipientOut.of(item) for item in view.deliveries],
            indicator=IndicatorOut(status=indicator.status, text=indicator.text, counts=dict(indicator.counts))
            if indicator
            else None,
            outbox=OutboxOut.of(view.outbox) if view.outbox else None,
            actions=sorted(view.actions),
        )


class MessagesOut(Output):
    items: list[MessageOut]


class DeliveryOut(Output):
    id: str
    ticket: str
    message: str
    subject: str
    kind: Literal["to", "cc", "bcc"]
    name: str
    address: str
    domain: str
    status: DeliveryStatus
    detail: str
    reason: str
    is_open: bool = Field(description="the recipient is still to be tried")
    status_since_at: datetime
    created_at: datetime
    department: Named
    agent: Named | None
    channel: Named
    due_at: datetime
    attempts: int

    @classmethod
    def of(cls, row: RowMapping) -> DeliveryOut:
        names = (
            "subject", "kind", "name", "address", "domain", "status", "detail", "reason", "is_open", "status_since_at",
            "created_at", "due_at", "attempts",
        )  # fmt: skip
        return cls(
            **{name: row[name] for name in names},
            id=row["public_id"],
            ticket=row["ticket_code"],
            message=row["message_public_id"],
            department=surely_named(row, "department"),
            agent=named(row, "agent"),
            channel=surely_named(row, "channel"),
        )


class DeliveryFiguresOut(Output):
    total: int
    by_status: dict[DeliveryStatus, int]
    by_day: dict[str, dict[DeliveryStatus, int]] = Field(description="days in UTC")
    by_domain: dict[str, int] = Field(description="the largest")
    by_reason: dict[str, int] = Field(description="the largest")

    @classmethod
    def of(cls, figures: DeliveryFigures) -> DeliveryFiguresOut:
        return cls(
            total=figures.total,
            by_status={Status(name): count for name, count in figures.by_status.items()},
            by_day={
                day: {Status(name): count for name, count in counts.items()} for day, counts in figures.by_day.items()
            },
            by_domain=dict(figures.by_domain),
            by_reason=dict(figures.by_reason),
        )


class FactOut(Output):
    """One stored piece of evidence; what the other side wrote is cleaned and cut."""

    number: int
    fact: str
    round: int
    attempt: int
    at: datetime
    code: int | None
    enhanced: str | None
    text: str
    server: str
    queue_id: str
    reason: str
    source: str
    actor: str

    @classmethod
    def of(cls, row: RowMapping) -> FactOut:
        names = ("number", "fact", "round", "attempt", "at", "code", "reason", "source", "actor")
        return cls(
            **{name: row[name] for name in names},
            text=verdicts.clean_reply(row["text"]),
            server=verdicts.clean_reply(row["server"], limit=255),
            queue_id=verdicts.clean_reply(row["queue_id"], limit=100),
            enhanced=verdicts.clean_reply(row["enhanced"], limit=20) if row["enhanced"] is not None else None,
        )


class AttemptOut(Output):
    number: int
    round: int
    state: str
    node: str
    started_at: datetime
    final_dot_at: datetime | None
    ended_at: datetime | None


class RawReportOut(Output):
    facts: list[FactOut]
    attempts: list[AttemptOut]
    is_chain_whole: bool = Field(description="nobody changed, removed or added a fact")

    @classmethod
    def of(cls, raw: RawReport) -> RawReportOut:
        return cls(
            facts=[FactOut.of(row) for row in raw.rows],
            attempts=[AttemptOut(**{name: row[name] for name in AttemptOut.model_fields}) for row in raw.attempts],
            is_chain_whole=raw.is_chain_whole,
        )


class ReportOut(Output):
    delivery: DeliveryOut
    headline: str
    side: verdicts.Side
    side_text: str
    what_to_do: str
    actions: list[verdicts.Action]
    code: str = Field(description="of the other side, like `550 5.1.1`")
    raw: RawReportOut | None = Field(description="for admins and owners")

    @classmethod
    def of(cls, found: DeliveryReport) -> ReportOut:
        report = found.report
        return cls(
            delivery=DeliveryOut.of(found.row),
            headline=report.headline,
            side=report.side,
            side_text=report.side_text,
            what_to_do=report.what_to_do,
            actions=list(report.actions),
            code=report.code,
            raw=RawReportOut.of(found.raw) if found.raw is not None else None,
        )


class LedgerOut(Output):
    id: str
    channel: Named
    folder: str
    uidvalidity: int
    uid: int | None
    external_id: str | None
    state: LedgerState
    outcome: LedgerOutcome | None
    reason: str
    excerpt: str
    sender: str
    subject: str
    message_id_header: str | None
    raw_bytes: int
    raw_digest: str | None
    attempts: int
    ticket: str | None
    message: str | None
    received_at: datetime
    internal_at: datetime | None
    done_at: datetime | None

    @classmethod
    def of(cls, row: RowMapping) -> LedgerOut:
        names = set(cls.model_fields) - {"id", "channel", "ticket", "message"}
        return cls(
            **{name: row[name] for name in names},
            id=row["public_id"],
            channel=surely_named(row, "channel"),
            ticket=row["ticket_code"],
            message=row["message_public_id"],
        )


class FolderOut(Output):
    account: str
    folder: str
    uidvalidity: int
    first_uid: int
    last_uid: int
    rows: int


class StandingsOut(Output):
    ticketed: int
    repeat: int
    own_copy: int
    evidence: int
    skipped: int
    quarantined: int
    dismissed: int
    waiting: int
    gaps: int


class ChannelLedgerOut(Output):
    """``offered`` is the sum of the standings and ``unexplained``; unexplained is 0, or something is wrong."""

    channel: Named
    offered: int
    standings: StandingsOut
    unexplained: int
    is_complete: bool = Field(description="all that was offered was fetched and is accounted for")
    folders: list[FolderOut]

    @classmethod
    def of(cls, found: ChannelLedger) -> ChannelLedgerOut:
        return cls(
            channel=Named(id=found.channel_public_id, name=found.channel_name),
            offered=found.offered,
            standings=StandingsOut(**found.standings),
            unexplained=found.unexplained,
            is_complete=found.is_complete,
            folders=[
                FolderOut(**{name: getattr(item, name) for name in FolderOut.model_fields}) for item in found.folders
            ],
        )


class LedgerFiguresOut(Output):
    is_complete: bool
    channels: list[ChannelLedgerOut]


class WayOut(Output):
    state: str = Field(description="starting, working, delayed, failing, paused or off")
    code: str
    text: str
    since_at: datetime | None


class ChannelOut(Output):
    id: str
    kind: str
    name: str
    address: str
    department: Named
    config: dict[str, Any] = Field(description='secrets are ""; send them like that to keep them')
    is_enabled: bool
    version: int
    way_in: WayOut
    way_out: WayOut
    resume_at: datetime | None = Field(description="when a paused way out is tried again")
    proven_in_at: datetime | None = Field(description="when the way in was last seen to work")
    last_in_at: datetime | None
    last_out_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, row: RowMapping) -> ChannelOut:
        names = (
            "kind", "name", "address", "config", "is_enabled", "version", "proven_in_at", "last_in_at", "last_out_at",
            "created_at",
        )  # fmt: skip
        return cls(
            **{name: row[name] for name in names},
            id=row["public_id"],
            way_in=_way(row, "in"),
            way_out=_way(row, "out"),
            department=surely_named(row, "department"),
            resume_at=row["out_resume_at"],
        )


class StaleChannelOut(ProblemOut):
    """A 409 with the code `stale`: the channel as it is now."""

    model_config = ConfigDict(title="StaleChannel")

    current: ChannelOut


class CapabilitiesOut(Output):
    html: bool
    attachments: bool
    max_attachment_bytes: int
    max_text_chars: int | None
    receipts: bool
    several_recipients: bool


class ChannelKindOut(Output):
    kind: str
    title: str
    capabilities: CapabilitiesOut
    config_schema: dict[str, Any] = Field(description="JSON Schema; secrets are marked writeOnly")

    @classmethod
    def of(cls, adapter: Adapter) -> ChannelKindOut:
        can = {name: getattr(adapter.capabilities, name) for name in CapabilitiesOut.model_fields}
        return cls(
            kind=adapter.kind,
            title=adapter.title,
            capabilities=CapabilitiesOut(**can),
            config_schema=adapter.config.model_json_schema(),
        )


class ChannelKindsOut(Output):
    items: list[ChannelKindOut]


class TestedOut(Output):
    is_working: bool
    findings: list[str]
    code: str = Field(description="what to look at when it does not work, like `login`")
    text: str

    @classmethod
    def of(cls, tested: Tested) -> TestedOut:
        return cls(is_working=tested.is_working, findings=list(tested.findings), code=tested.code, text=tested.text)


def _way(row: RowMapping, way: str) -> WayOut:
    return WayOut(**{name: row[f"{way}_{name}"] for name in WayOut.model_fields})


def _people(stored: list[dict[str, str]]) -> list[Person]:
    return [Person(name=item["name"], address=item["address"]) for item in stored]
