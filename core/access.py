"""The one gate (T-G1): who may do what to which thing, and which departments an actor sees.

``may`` answers for one thing, ``visible_departments`` scopes the query of a list, ``require`` raises. Nothing here
reads the store: the caller loads the thing's few deciding values (its department, its role) and asks. What an actor may
not see does not exist for them: ``require`` raises NotFound then, as for a thing that is not there (T-G2).

Roles nest, owner > admin > agent (R8.1). An API key has the rights of its owner at this moment, cut down to its scopes
(T-L06). ``may(actor, action)`` without a thing asks "could this actor ever?"; routes declare that, handlers ask again
with the thing in hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from core.errors import NotFound, PermissionDenied


class Role(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    AGENT = "agent"


class Scope(StrEnum):
    """What an API key may be used for. Each stands alone: a key may write and not read."""

    READ = "read"
    WRITE = "write"  #: tickets, answers, deliveries
    ADMIN = "admin"  #: configuration, people, keys, audit


class ActorKind(StrEnum):
    AGENT = "agent"
    API_KEY = "api_key"
    SYSTEM = "system"
    ANONYMOUS = "anonymous"


class Action(StrEnum):
    TICKET_READ = "ticket.read"
    TICKET_ANSWER = "ticket.answer"
    TICKET_CHANGE = "ticket.change"
    DELIVERY_READ = "delivery.read"
    DELIVERY_CHANGE = "delivery.change"  #: resend, cancel, hold, release
    DELIVERY_REPORT_RAW = "delivery.report_raw"
    DELIVERY_LIST_ALL = "delivery.list_all"
    LEDGER_READ = "ledger.read"
    QUARANTINE_READ_RAW = "quarantine.read_raw"
    QUARANTINE_REPLAY = "quarantine.replay"
    QUARANTINE_DISMISS = "quarantine.dismiss"
    CHANNEL_READ = "channel.read"
    CHANNEL_MANAGE = "channel.manage"
    CHANNEL_TEST = "channel.test"
    AGENT_READ = "agent.read"
    AGENT_MANAGE = "agent.manage"
    DEPARTMENT_READ = "department.read"
    DEPARTMENT_MANAGE = "department.manage"
    AUDIT_READ = "audit.read"
    API_KEY_MANAGE = "api_key.manage"
    SESSION_MANAGE = "session.manage"
    SELF_MANAGE = "self.manage"  #: own profile and password
    HEALTH_READ = "health.read"  #: more than "ok"
    SETTING_MANAGE = "setting.manage"  #: account-wide


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Who asks, with the rights of this moment. ``scopes`` is None where nothing cuts them down."""

    kind: ActorKind
    agent_id: int | None = None
    public_id: str = ""  #: of the agent, or of the API key
    name: str = ""
    role: Role | None = None
    department_ids: frozenset[int] = frozenset()
    has_departments: bool = True  #: whether the house has any department at all (R8.5)
    epoch: int = 0
    scopes: frozenset[Scope] | None = None

    @property
    def label(self) -> str:
        """How records name the actor: ``agent:…``, ``api_key:…``, ``system``."""
        return f"{self.kind}:{self.public_id}" if self.public_id else str(self.kind)


SYSTEM = Actor(kind=ActorKind.SYSTEM, name="system")
ANONYMOUS = Actor(kind=ActorKind.ANONYMOUS, name="anonymous")


@dataclass(frozen=True, kw_only=True, slots=True)
class TicketRef:
    """A ticket, or whatever belongs to one: message, attachment, delivery."""

    department_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DepartmentRef:
    department_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelRef:
    department_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentRef:
    """An agent; ``grants`` is the role that the action would give them. A new agent has no id and no role yet."""

    agent_id: int | None = None
    role: Role | None = None
    department_ids: frozenset[int] = frozenset()
    grants: Role | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKeyRef:
    """A key of one agent; ``grants`` are the scopes that a new one would get."""

    agent_id: int
    grants: frozenset[Scope] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionRef:
    agent_id: int


Thing = TicketRef | DepartmentRef | ChannelRef | AgentRef | ApiKeyRef | SessionRef | None

RANK: Mapping[Role, int] = {Role.AGENT: 1, Role.ADMIN: 2, Role.OWNER: 3}

#: The lowest role that may, and the scope that an API key needs for it.
NEEDS: Mapping[Action, tuple[Role, Scope]] = {
    Action.TICKET_READ: (Role.AGENT, Scope.READ),
    Action.TICKET_ANSWER: (Role.AGENT, Scope.WRITE),
    Action.TICKET_CHANGE: (Role.AGENT, Scope.WRITE),
    Action.DELIVERY_READ: (Role.AGENT, Scope.READ),
    Action.DELIVERY_CHANGE: (Role.AGENT, Scope.WRITE),
    Action.DELIVERY_REPORT_RAW: (Role.ADMIN, Scope.READ),
    Action.DELIVERY_LIST_ALL: (Role.ADMIN, Scope.READ),
    Action.LEDGER_READ: (Role.ADMIN, Scope.READ),
    Action.QUARANTINE_READ_RAW: (Role.ADMIN, Scope.READ),
    Action.QUARANTINE_REPLAY: (Role.ADMIN, Scope.WRITE),
    Action.QUARANTINE_DISMISS: (Role.ADMIN, Scope.WRITE),
    Action.CHANNEL_READ: (Role.ADMIN, Scope.READ),
    Action.CHANNEL_MANAGE: (Role.ADMIN, Scope.ADMIN),
    Action.CHANNEL_TEST: (Role.ADMIN, Scope.ADMIN),
    Action.AGENT_READ: (Role.AGENT, Scope.READ),
    Action.AGENT_MANAGE: (Role.ADMIN, Scope.ADMIN),
    Action.DEPARTMENT_READ: (Role.AGENT, Scope.READ),
    Action.DEPARTMENT_MANAGE: (Role.ADMIN, Scope.ADMIN),
    Action.AUDIT_READ: (Role.ADMIN, Scope.ADMIN),
    Action.API_KEY_MANAGE: (Role.AGENT, Scope.ADMIN),
    Action.SESSION_MANAGE: (Role.AGENT, Scope.ADMIN),
    Action.SELF_MANAGE: (Role.AGENT, Scope.ADMIN),
    Action.HEALTH_READ: (Role.ADMIN, Scope.READ),
    Action.SETTING_MANAGE: (Role.OWNER, Scope.ADMIN),
}


def may(actor: Actor, action: Action, thing: Thing = None) -> bool:
    """Whether ``actor`` may do ``action`` to ``thing``, or, without a thing, to any at all."""
    if actor.kind is ActorKind.SYSTEM:
        return True
    if actor.kind is ActorKind.ANONYMOUS or actor.role is None:
        return False
    lowest, scope = NEEDS[action]
    if RANK[actor.role] < RANK[lowest] or (actor.scopes is not None and scope not in actor.scopes):
        return False
    return sees(actor, thing) and _grants_no_more_than_held(actor, action, thing)


def sees(actor: Actor, thing: Thing) -> bool:
    """Whether the thing exists for the actor."""
    match thing:
        case None:
            return True
        case TicketRef() | DepartmentRef() | ChannelRef():
            visible = visible_departments(actor)
            return visible is None or thing.department_id in visible
        case AgentRef():
            return (
                visible_departments(actor) is None
                or (thing.agent_id is not None and thing.agent_id == actor.agent_id)
                or bool(thing.department_ids & actor.department_ids)  # colleagues only (T-M12)
            )
        case ApiKeyRef() | SessionRef():
            return actor.kind is ActorKind.SYSTEM or thing.agent_id == actor.agent_id


def visible_departments(actor: Actor) -> frozenset[int] | None:
    """Return the departments whose tickets the actor sees; None means all of them.

    An agent in no department sees nothing (T-M13), unless the house has no departments at all (R8.5).
    """
    if actor.kind is ActorKind.SYSTEM:
        return None
    if actor.kind is ActorKind.ANONYMOUS or actor.role is None:
        return frozenset()
    if actor.role is not Role.AGENT or not actor.has_departments:
        return None
    return actor.department_ids


def require(actor: Actor, action: Action, thing: Thing = None) -> None:
    """Raise NotFound for what the actor may not know of, PermissionDenied for what they may see and not do."""
    if may(actor, action, thing):
        return
    if not sees(actor, thing):
        raise NotFound("there is no such thing")
    raise PermissionDenied(f"not allowed: {action}")


def _grants_no_more_than_held(actor: Actor, action: Action, thing: Thing) -> bool:
    """T-L06: nobody manages a higher one, nobody hands out what they do not have."""
    match thing:
        case AgentRef() if action is Action.AGENT_MANAGE:
            return all(RANK[role] <= _rank(actor) for role in (thing.role, thing.grants) if role is not None)
        case ApiKeyRef():
            return actor.scopes is None or thing.grants <= actor.scopes
        case _:
            return True


def _rank(actor: Actor) -> int:
    return RANK[actor.role] if actor.role is not None else 0
