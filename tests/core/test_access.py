"""The gate against a policy table written by hand: every action, every actor, the own and the foreign thing."""

from __future__ import annotations

from itertools import product

import pytest

from core.access import (
    ANONYMOUS,
    NEEDS,
    RANK,
    SYSTEM,
    Action,
    Actor,
    ActorKind,
    AgentRef,
    ApiKeyRef,
    ChannelRef,
    DepartmentRef,
    Role,
    Scope,
    SessionRef,
    Thing,
    TicketRef,
    may,
    require,
    sees,
    visible_departments,
)
from core.errors import NotFound, PermissionDenied

OWN, FOREIGN = 1, 2


def person(role: Role, *departments: int, scopes: frozenset[Scope] | None = None, in_house: bool = True) -> Actor:
    return Actor(
        kind=ActorKind.AGENT if scopes is None else ActorKind.API_KEY,
        agent_id=7,
        public_id="me",
        role=role,
        department_ids=frozenset(departments),
        has_departments=in_house,
        epoch=1,
        scopes=scopes,
    )


ACTORS = {
    "owner": person(Role.OWNER),
    "admin": person(Role.ADMIN),
    "agent": person(Role.AGENT, OWN),
    "loner": person(Role.AGENT),
    "nobody": ANONYMOUS,
}

# Who may, as letters: o(wner) a(dmin) g(= agent of the department) l(= agent of no department). One column for a thing
# of one's own (department or self), one for a foreign one.
POLICY = """
ticket.read          oag  oa
ticket.answer        oag  oa
ticket.change        oag  oa
delivery.read        oag  oa
delivery.change      oag  oa
delivery.report_raw  oa   oa
delivery.list_all    oa   oa
ledger.read          oa   oa
quarantine.read_raw  oa   oa
quarantine.replay    oa   oa
quarantine.dismiss   oa   oa
channel.read         oa   oa
channel.manage       oa   oa
channel.test         oa   oa
agent.read           oagl oa
agent.manage         oa   oa
department.read      oag  oa
department.manage    oa   oa
audit.read           oa   oa
api_key.manage       oagl -
session.manage       oagl -
self.manage          oagl oagl
health.read          oa   oa
setting.manage       o    o
"""
ROWS = {row.split()[0]: row.split()[1:] for row in POLICY.strip().splitlines()}
LETTERS = {"owner": "o", "admin": "a", "agent": "g", "loner": "l", "nobody": "x"}


def things(action: Action) -> tuple[Thing, Thing]:
    """One of the actor's own, one foreign."""
    noun = action.partition(".")[0]
    match noun:
        case "agent":
            return (
                AgentRef(agent_id=7, role=Role.AGENT),
                AgentRef(agent_id=8, role=Role.AGENT, department_ids=frozenset({FOREIGN})),
            )
        case "api_key":
            return ApiKeyRef(agent_id=7), ApiKeyRef(agent_id=8)
        case "session":
            return SessionRef(agent_id=7), SessionRef(agent_id=8)
        case "department":
            return DepartmentRef(department_id=OWN), DepartmentRef(department_id=FOREIGN)
        case "channel" | "ledger" | "quarantine":
            return ChannelRef(department_id=OWN), ChannelRef(department_id=FOREIGN)
        case "self" | "audit" | "health" | "setting":
            return None, None
        case _:
            return TicketRef(department_id=OWN), TicketRef(department_id=FOREIGN)


@pytest.mark.proves("R8.1", "R8.5", "T-G1", "T-M13")
@pytest.mark.parametrize(("action", "who"), list(product(Action, ACTORS)), ids=str)
def test_gate_agrees_with_the_table_of_policies(action: Action, who: str) -> None:
    for allowed, thing in zip(ROWS[action], things(action), strict=True):
        assert may(ACTORS[who], action, thing) == (LETTERS[who] in allowed), thing


def test_table_of_policies_names_every_action_once() -> None:
    assert set(ROWS) == set(Action) == set(NEEDS)
    assert len(POLICY.strip().splitlines()) == len(ROWS)


@pytest.mark.proves("R8.1", "T-L06")
@pytest.mark.parametrize(("own", "target", "grants"), list(product(Role, Role, [None, *Role])))
def test_nobody_manages_a_higher_role_or_grants_one(own: Role, target: Role, grants: Role | None) -> None:
    thing = AgentRef(agent_id=8, role=target, department_ids=frozenset({OWN}), grants=grants)
    allowed = own is not Role.AGENT and RANK[target] <= RANK[own] and (grants is None or RANK[grants] <= RANK[own])
    assert may(person(own, OWN), Action.AGENT_MANAGE, thing) == allowed


@pytest.mark.proves("R8.7", "T-L06")
@pytest.mark.parametrize(
    ("action", "role", "scopes"), list(product(Action, Role, [(), *((scope,) for scope in Scope)]))
)
def test_api_key_holds_its_owners_rights_cut_down_to_its_scopes(
    action: Action, role: Role, scopes: tuple[Scope, ...]
) -> None:
    key = person(role, OWN, scopes=frozenset(scopes))
    for thing in things(action):
        assert may(key, action, thing) == (may(person(role, OWN), action, thing) and NEEDS[action][1] in scopes)


@pytest.mark.proves("T-L06")
def test_api_key_makes_no_key_with_more_scopes() -> None:
    key = person(Role.OWNER, scopes=frozenset({Scope.ADMIN, Scope.READ}))
    assert may(key, Action.API_KEY_MANAGE, ApiKeyRef(agent_id=7, grants=frozenset({Scope.READ})))
    assert not may(key, Action.API_KEY_MANAGE, ApiKeyRef(agent_id=7, grants=frozenset({Scope.WRITE})))


@pytest.mark.proves("R8.5", "T-M13")
@pytest.mark.parametrize(
    ("actor", "departments"),
    [
        (ACTORS["owner"], None),
        (ACTORS["admin"], None),
        (ACTORS["agent"], {OWN}),
        (ACTORS["loner"], set()),
        (person(Role.AGENT, in_house=False), None),
        (ANONYMOUS, set()),
        (SYSTEM, None),
    ],
)
def test_lists_are_scoped_to_the_departments_of_the_actor(actor: Actor, departments: set[int] | None) -> None:
    assert visible_departments(actor) == departments


@pytest.mark.proves("T-G2")
@pytest.mark.parametrize(
    ("action", "thing", "error"),
    [
        (Action.TICKET_READ, TicketRef(department_id=FOREIGN), NotFound),
        (Action.DELIVERY_REPORT_RAW, TicketRef(department_id=FOREIGN), NotFound),
        (Action.DELIVERY_REPORT_RAW, TicketRef(department_id=OWN), PermissionDenied),
        (Action.AGENT_MANAGE, AgentRef(agent_id=8, department_ids=frozenset({FOREIGN})), NotFound),
        (Action.AGENT_MANAGE, AgentRef(agent_id=8, department_ids=frozenset({OWN})), PermissionDenied),
        (Action.API_KEY_MANAGE, ApiKeyRef(agent_id=8), NotFound),
        (Action.LEDGER_READ, None, PermissionDenied),
    ],
)
def test_what_cannot_be_seen_is_not_found_and_the_rest_is_forbidden(
    action: Action, thing: Thing, error: type[Exception]
) -> None:
    with pytest.raises(error):
        require(ACTORS["agent"], action, thing)


def test_system_may_everything_and_anonymous_nothing() -> None:
    for action in Action:
        for thing in (None, *things(action)):
            assert may(SYSTEM, action, thing)
            assert not may(ANONYMOUS, action, thing)
    assert not sees(ANONYMOUS, TicketRef(department_id=OWN))
