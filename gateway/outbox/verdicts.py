"""Evidence in plain words: what happened, whose side it is, what to do (R5.6).

The words are for somebody who has never heard of SMTP. They are templates in the tables below, keyed by the detail of
the verdict and by the reason word of the deciding evidence; ``translate`` is applied to each template before it is
filled in, so a translation is a table from these sentences to others. A reason word that is not in the table gets the
general truth of its detail: never an error, never a guess.

What the other side wrote is data: it is cleaned and cut by ``clean_reply``, fills no template, and only admins and
owners see it. Nothing here decides a status; ``core.delivery`` did.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from core.delivery import Detail, Evidence, Fact, Status, Verdict, canonical, instant

Reader = Literal["agent", "admin", "owner"]


class Side(StrEnum):
    """Where the cause lies."""

    THEIRS = "theirs"
    OURS = "ours"
    CONTENT = "content"
    ADDRESS = "address"
    UNKNOWN = "unknown"
    NOBODY = "nobody"  #: nothing is wrong


class Action(StrEnum):
    """A button that fits."""

    CORRECT_ADDRESS = "correct_address"
    SEND_AGAIN = "send_again"
    MARK_AS_SENT = "mark_as_sent"
    WAIT = "wait"
    OTHER_ROAD = "other_road"
    SEND_AS_LINK = "send_as_link"
    RECONNECT_ACCOUNT = "reconnect_account"
    TELL_ADMIN = "tell_admin"
    CANCEL = "cancel"
    RELEASE = "release"


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The delivery report of one recipient, as one reader may see it."""

    headline: str
    side: Side
    side_text: str
    what_to_do: str
    actions: tuple[Action, ...] = ()
    code: str = ""  #: e.g. ``550 5.1.1``
    raw: tuple[Evidence, ...] = ()  #: oldest first, texts cleaned; empty for agents


@dataclass(frozen=True, slots=True)
class _What:
    """What happened, by detail. ``{why}`` in the headline is filled from the reason."""

    headline: str
    side: Side
    what_to_do: str
    actions: tuple[Action, ...] = ()
    heeds_reason: bool = False


@dataclass(frozen=True, slots=True)
class _Why:
    """Why, by reason word: a clause, and what helps once it has failed for good."""

    clause: str
    side: Side
    what_to_do: str
    actions: tuple[Action, ...] = ()


SIDE_TEXTS: Mapping[Side, str] = {
    Side.THEIRS: "The cause is on the receiving side.",
    Side.OURS: "The cause is on our side.",
    Side.CONTENT: "The cause is what the message contains.",
    Side.ADDRESS: "The cause is the address.",
    Side.UNKNOWN: "It is not known on which side the cause is.",
    Side.NOBODY: "Nothing is wrong.",
}

_KEEP_TRYING = "Nothing needs to be done: we keep trying by ourselves and tell you if it fails in the end."
_OTHER_ROAD = "Reach this contact another way, or send it again later."
_ADMIN = "An administrator has to put this right; then the message can be sent again."
_NO_NEED = "Nothing needs to be done."
_RELEASE = "Read it again; then release it or cancel it."

WHAT: Mapping[Detail, _What] = {
    Detail.QUEUED: _What(
        "The message waits for its turn to be sent.", Side.NOBODY, _NO_NEED, (Action.WAIT, Action.CANCEL)
    ),
    Detail.HANDING_OVER: _What("The message is being sent right now.", Side.NOBODY, _NO_NEED, (Action.WAIT,)),
    Detail.ACCEPTED: _What("The message was sent.", Side.NOBODY, _NO_NEED),
    Detail.MARKED_SENT: _What(
        "The message was marked as sent by a person; the other side has not confirmed it.",
        Side.NOBODY,
        "If the customer says that nothing came, send it again.",
        (Action.SEND_AGAIN,),
    ),
    Detail.RELAYED: _What(
        "The message was handed on to a system that does not report delivery.", Side.NOBODY, _NO_NEED
    ),
    Detail.EXPANDED: _What("The message was handed on to a mailing list.", Side.NOBODY, _NO_NEED),
    Detail.REPLIED: _What("The customer has answered this message, so it arrived.", Side.NOBODY, _NO_NEED),
    Detail.DELIVERED: _What("The message was delivered to {recipient}.", Side.NOBODY, _NO_NEED),
    Detail.READ: _What("The message was opened by the customer.", Side.NOBODY, _NO_NEED),
    Detail.COMPLAINT: _What(
        "The message arrived, and the customer or their provider reported it as unwanted.",
        Side.CONTENT,
        "Do not write to this address again without being asked to.",
        (Action.OTHER_ROAD, Action.TELL_ADMIN),
    ),
    Detail.HELD: _What(
        "The message is held back and will not be sent until somebody releases it: {why}.",
        Side.OURS,
        _RELEASE,
        (Action.RELEASE, Action.CANCEL),
        heeds_reason=True,
    ),
    Detail.CANCELLED: _What(
        "The message was cancelled before it was sent.",
        Side.NOBODY,
        "Send it again if it is wanted after all.",
        (Action.SEND_AGAIN,),
    ),
    Detail.OVERDUE: _What(
        "The message has been waiting to be sent for longer than usual.",
        Side.OURS,
        "Nothing is lost: it is sent as soon as the queue moves. An administrator can see what holds it up.",
        (Action.WAIT, Action.TELL_ADMIN, Action.OTHER_ROAD, Action.CANCEL),
    ),
    Detail.IN_DOUBT: _What(
        "The connection broke at the last moment, so it is not certain whether {recipient} got the message.",
        Side.UNKNOWN,
        "Send it again if two copies would do no harm; mark it as sent if you know that it arrived. "
        "If the other side reports anything, this settles by itself.",
        (Action.SEND_AGAIN, Action.MARK_AS_SENT, Action.OTHER_ROAD),
    ),
    Detail.TEMPORARILY_REFUSED: _What(
        "The other side did not take the message yet: {why}.",
        Side.THEIRS,
        _KEEP_TRYING,
        (Action.WAIT, Action.OTHER_ROAD, Action.CANCEL),
        heeds_reason=True,
    ),
    Detail.UNREACHABLE: _What(
        "The message could not be handed over yet: {why}.",
        Side.THEIRS,
        _KEEP_TRYING,
        (Action.WAIT, Action.OTHER_ROAD, Action.CANCEL),
        heeds_reason=True,
    ),
    Detail.DELAY_REPORTED: _What(
        "The message was sent, but the other side reports that it is still on its way: {why}.",
        Side.THEIRS,
        "Nothing needs to be done: the other side keeps trying and reports if it fails in the end.",
        (Action.WAIT, Action.OTHER_ROAD),
        heeds_reason=True,
    ),
    Detail.OWN_FAULT: _What(
        "The message waits because our own account is not working: {why}.",
        Side.OURS,
        "Nothing is lost: it is sent as soon as an administrator has put the account right.",
        (Action.RECONNECT_ACCOUNT, Action.TELL_ADMIN, Action.OTHER_ROAD, Action.CANCEL),
        heeds_reason=True,
    ),
    Detail.REFUSED: _What(
        "The other side refused the message: {why}.",
        Side.UNKNOWN,
        _OTHER_ROAD,
        (Action.SEND_AGAIN, Action.OTHER_ROAD),
        heeds_reason=True,
    ),
    Detail.BOUNCED: _What(
        "The message was sent, but came back undelivered: {why}.",
        Side.UNKNOWN,
        _OTHER_ROAD,
        (Action.SEND_AGAIN, Action.OTHER_ROAD),
        heeds_reason=True,
    ),
    Detail.EXPIRED: _What(
        "The message could not be delivered in the time allowed for trying: {why}.",
        Side.UNKNOWN,
        _OTHER_ROAD,
        (Action.SEND_AGAIN, Action.OTHER_ROAD),
        heeds_reason=True,
    ),
}

_NEW_ADDRESS = "Ask for the contact's new address, or reach them another way."
_BLOCKED = "Sending it again will not help. An administrator can find out why; reach this contact another way."
_BLOCKED_ACTIONS = (Action.TELL_ADMIN, Action.OTHER_ROAD)
_CORRECT = (Action.CORRECT_ADDRESS, Action.OTHER_ROAD)
_RETRY = (Action.SEND_AGAIN, Action.OTHER_ROAD)
_OURS = (Action.TELL_ADMIN, Action.SEND_AGAIN, Action.OTHER_ROAD)
_ACCOUNT = (Action.RECONNECT_ACCOUNT, Action.TELL_ADMIN, Action.OTHER_ROAD)


def _held(clause: str) -> _Why:
    return _Why(clause, Side.OURS, _RELEASE, (Action.RELEASE, Action.CANCEL))


WHY: Mapping[str, _Why] = {
    "no_such_mailbox": _Why(
        "the address {recipient} does not exist there",
        Side.ADDRESS,
        "Look for a typing error in the address and correct it, or reach this contact another way.",
        _CORRECT,
    ),
    "no_such_domain": _Why(
        "{domain} does not exist or takes no mail",
        Side.ADDRESS,
        "Look for a typing error after the @ and correct it, or reach this contact another way.",
        _CORRECT,
    ),
    "mailbox_disabled": _Why(
        "the mailbox of {recipient} is closed or not in use any more",
        Side.ADDRESS,
        _NEW_ADDRESS,
        _CORRECT,
    ),
    "bad_address": _Why(
        "the address {recipient} is not written as an address can be",
        Side.ADDRESS,
        "Look for a typing error in the address and correct it.",
        _CORRECT,
    ),
    "ambiguous_address": _Why(
        "the address {recipient} could mean several people there",
        Side.ADDRESS,
        "Ask for the contact's full address, or reach them another way.",
        _CORRECT,
    ),
    "moved": _Why("the owner of {recipient} has a new address", Side.ADDRESS, _NEW_ADDRESS, _CORRECT),
    "takes_no_mail": _Why("{domain} takes no mail", Side.ADDRESS, _NEW_ADDRESS, _CORRECT),
    "owner_changed": _Why(
        "the address {recipient} belongs to somebody else now",
        Side.ADDRESS,
        "Do not write to it again: another person would read it. Ask for the contact's new address.",
        _CORRECT,
    ),
    "list_problem": _Why(
        "{recipient} is a mailing list that is not working",
        Side.THEIRS,
        "Only its owner can put this right. Write to the contact's own address, or reach them another way.",
        _CORRECT,
    ),
    "not_allowed": _Why(
        "{recipient} takes mail from chosen senders only",
        Side.THEIRS,
        "Reach this contact another way and ask them to let our address in.",
        (Action.OTHER_ROAD, Action.SEND_AGAIN),
    ),
    "mailbox_full": _Why(
        "the mailbox of {recipient} is full",
        Side.THEIRS,
        "Send it again in a day or two, or reach this contact another way.",
        _RETRY,
    ),
    "too_big": _Why(
        "the message is larger than the other side takes",
        Side.CONTENT,
        "Send the attachments as a link, or send fewer of them.",
        (Action.SEND_AS_LINK, Action.OTHER_ROAD),
    ),
    "content_refused": _Why(
        "something in the message is not allowed there, often an attachment",
        Side.CONTENT,
        "Send the attachments as a link, or write it in other words.",
        (Action.SEND_AS_LINK, Action.OTHER_ROAD),
    ),
    "spam": _Why(
        "a filter on the other side took it for unwanted mail",
        Side.CONTENT,
        "Write it in other words with fewer links. If it happens often, an administrator should look at it.",
        (Action.SEND_AGAIN, Action.OTHER_ROAD, Action.TELL_ADMIN),
    ),
    "virus": _Why(
        "a filter on the other side took an attachment for harmful",
        Side.CONTENT,
        "Do not send the attachment again before an administrator has looked at it.",
        (Action.TELL_ADMIN, Action.OTHER_ROAD),
    ),
    "encoding": _Why(
        "the other side cannot read some characters of the message or the address",
        Side.CONTENT,
        "Use an address in Latin letters if there is one, or reach this contact another way.",
        _CORRECT,
    ),
    "blocked": _Why("the other side blocks mail from our server", Side.THEIRS, _BLOCKED, _BLOCKED_ACTIONS),
    "relay_denied": _Why(
        "a server on the way does not pass on mail for {domain}",
        Side.UNKNOWN,
        "Look for a typing error after the @. If the address is right, an administrator should look at the settings.",
        (Action.CORRECT_ADDRESS, Action.TELL_ADMIN, Action.OTHER_ROAD),
    ),
    "policy": _Why(
        "the rules of the other side do not let it in",
        Side.THEIRS,
        _BLOCKED,
        _BLOCKED_ACTIONS,
    ),
    "authentication": _Why("our server could not prove that it may send for our address", Side.OURS, _ADMIN, _OURS),
    "login": _Why("the login of our account is refused", Side.OURS, _ADMIN, _ACCOUNT),
    "store": _Why(
        "our own copy of it is damaged",
        Side.OURS,
        "Write it anew. An administrator should look at the store.",
        (Action.TELL_ADMIN, Action.OTHER_ROAD),
    ),
    "tls": _Why("no safe connection could be set up", Side.OURS, _ADMIN, _OURS),
    "reverse_dns": _Why("the name of our server could not be confirmed", Side.OURS, _ADMIN, _OURS),
    "sender_refused": _Why("our own sender address is not accepted", Side.OURS, _ADMIN, _OURS),
    "protocol": _Why("the servers did not understand each other", Side.OURS, _ADMIN, _OURS),
    "too_many_recipients": _Why(
        "it went to too many people at once",
        Side.OURS,
        "Send it again to fewer people at a time.",
        _RETRY,
    ),
    "system_full": _Why("the server of the other side has no room left", Side.THEIRS, _OTHER_ROAD, _RETRY),
    "system_error": _Why("the server of the other side is not working as it should", Side.THEIRS, _OTHER_ROAD, _RETRY),
    "greylisted": _Why(
        "it makes senders that it does not know wait for some minutes", Side.THEIRS, _OTHER_ROAD, _RETRY
    ),
    "rate_limited": _Why(
        "too many messages came in a short time",
        Side.OURS,
        "Send it again later. If it happens often, an administrator should lower the sending rate.",
        (Action.SEND_AGAIN, Action.OTHER_ROAD, Action.TELL_ADMIN),
    ),
    "not_reachable": _Why("the server of the other side did not answer", Side.THEIRS, _OTHER_ROAD, _RETRY),
    "dns_failure": _Why(
        "the server for {domain} could not be found",
        Side.THEIRS,
        "Look for a typing error after the @. If the address is right, send it again later.",
        (Action.CORRECT_ADDRESS, Action.SEND_AGAIN, Action.OTHER_ROAD),
    ),
    "loop": _Why(
        "it goes round in circles between servers of the other side",
        Side.THEIRS,
        "Only the other side can put this right. Reach this contact another way and tell them.",
        (Action.OTHER_ROAD, Action.TELL_ADMIN),
    ),
    "expired": _Why("the other side did not take it in time", Side.THEIRS, _OTHER_ROAD, _RETRY),
    "customer_wrote_first": _held("the customer wrote first"),
    "held_by_agent": _held("one of us asked for it"),
    "ticket_deleted": _held("its ticket was deleted after the answer was planned"),
    "ticket_spam": _held("its ticket was marked as spam after the answer was planned"),
    "ticket_closed": _held("its ticket was closed after the answer was planned"),
    "ticket_moved": _held("its ticket went to another department after the answer was planned"),
    "author_inactive": _held("the agent who planned it has no access any more"),
    "author_left": _held("the agent who planned it does not answer for this department any more"),
}

#: Words of channels that say the same as one above.
ALSO_CALLED: Mapping[str, str] = {
    "spam_suspected": "spam",
    "authentication_ours": "authentication",
    "login_ours": "login",
    "tls_ours": "tls",
    "unreachable": "not_reachable",
    "dns": "dns_failure",
}

#: The general truth of a detail when no reason is known.
NO_REASON: Mapping[Detail, str] = {
    Detail.OWN_FAULT: "something in its settings has to be put right",
    Detail.TEMPORARILY_REFUSED: "it asks to try again later",
    Detail.EXPIRED: "every try failed",
    Detail.HELD: "one of us asked for it",
}
_NO_CLEAR_REASON = "it gave no reason that we can read"

_LATER_REFUSAL = "Another try was refused: {why}."


def explain(
    verdict: Verdict,
    evidence: Sequence[Evidence],
    *,
    recipient: str,
    reader: Reader,
    translate: Callable[[str], str] = str,
) -> Report:
    """Return the report of one delivery for one reader. Any evidence, any recipient; raises nothing."""
    what = WHAT[verdict.detail]
    cause = _cause(verdict, evidence)
    why = _why(cause) if cause and what.heeds_reason else None
    shown = clean_reply(recipient, limit=254) or translate("the recipient")
    names = {"recipient": shown, "domain": shown.rpartition("@")[2]}

    def say(template: str, **more: str) -> str:
        return translate(template).format(**names, **more)

    clause = say(why.clause if why else NO_REASON.get(verdict.detail, _NO_CLEAR_REASON))
    side, advice, actions = what.side, what.what_to_do, what.actions
    if why:
        side = why.side
        if verdict.status is Status.NOT_DELIVERED:
            advice, actions = why.what_to_do, why.actions
        elif side is Side.ADDRESS:
            actions = (Action.CORRECT_ADDRESS, *actions)
    what_to_do = say(advice)
    if refusal := _later_refusal(verdict, evidence):
        refused = _why(refusal)
        what_to_do += " " + say(_LATER_REFUSAL, why=say(refused.clause if refused else _NO_CLEAR_REASON))
        if refused and refused.side is Side.ADDRESS:
            actions = (Action.CORRECT_ADDRESS, *actions)
    return Report(
        headline=say(what.headline, why=clause),
        side=side,
        side_text=translate(SIDE_TEXTS[side]),
        what_to_do=what_to_do,
        actions=_for_reader(actions, reader),
        code=_code(cause),
        raw=() if reader == "agent" else _raw(evidence),
    )


def why_held(reason: str) -> str:
    """Return the clause that says why an answer is held; empty for a word that is none of ours."""
    return WHY[reason].clause if reason in WHY else ""


def _cause(verdict: Verdict, evidence: Iterable[Evidence]) -> Evidence | None:
    """Return the piece that tells why: the decisive one, or for an expiry the last trouble before it."""
    decisive = verdict.decisive
    if decisive is None or verdict.detail is not Detail.EXPIRED:
        return decisive
    troubles = [
        item
        for item in evidence
        if item.fact in {Fact.DEFERRED, Fact.UNREACHABLE, Fact.CHANNEL_FAULT} and item.round == decisive.round
    ]
    return max(troubles, key=lambda item: (item.attempt, canonical(item)), default=decisive)


def _why(cause: Evidence) -> _Why | None:
    word = cause.reason or ("not_reachable" if cause.fact is Fact.UNREACHABLE else "")
    return WHY.get(ALSO_CALLED.get(word, word))


def _later_refusal(verdict: Verdict, evidence: Iterable[Evidence]) -> Evidence | None:
    """Return a refusal that did not decide because an older try may have arrived; the reader must know of both."""
    decisive = verdict.decisive
    if decisive is None or verdict.status is Status.NOT_DELIVERED:
        return None
    refusals = [
        item
        for item in evidence
        if item.fact is Fact.REFUSED and (item.round, item.attempt) > (decisive.round, decisive.attempt)
    ]
    if decisive.attempt == 0:  # a report belongs to its whole round: tries inside it are answered by it
        refusals = [item for item in refusals if item.round > decisive.round]
    return max(refusals, key=lambda item: (item.round, item.attempt, canonical(item)), default=None)


def _for_reader(actions: Iterable[Action], reader: Reader) -> tuple[Action, ...]:
    """Leave out what the reader cannot do (reconnect an account) or need not (tell themselves)."""
    hidden = Action.RECONNECT_ACCOUNT if reader == "agent" else Action.TELL_ADMIN
    return tuple(action for action in dict.fromkeys(actions) if action is not hidden)


def _code(cause: Evidence | None) -> str:
    if cause is None:
        return ""
    parts = (str(cause.code) if cause.code is not None else "", clean_reply(cause.enhanced or "", limit=20))
    return " ".join(part for part in parts if part)


def _raw(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    cleaned = {
        replace(
            item,
            text=clean_reply(item.text),
            server=clean_reply(item.server, limit=255),
            queue_id=clean_reply(item.queue_id, limit=100),
            enhanced=clean_reply(item.enhanced, limit=20) if item.enhanced is not None else None,
        )
        for item in evidence
    }
    return tuple(
        sorted(
            cleaned,
            key=lambda item: (item.at is None, instant(item.at), item.round, item.attempt, canonical(item)),
        )
    )


#: Control, format (bidi overrides, zero width), surrogate and line separator characters: they move what is around them.
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def clean_reply(text: str, limit: int = 500) -> str:
    """Return a peer's words as one short line that can be shown as text: at most ``limit`` characters.

    Markup stays as it is, as characters; the page escapes it. The cost is bounded by ``limit``, not by the text.
    """
    head = text[: limit * 4]
    shown = "".join(" " if unicodedata.category(char) in _UNSHOWN else char for char in head)
    line = " ".join(shown.split())
    if len(line) <= limit and len(head) == len(text):
        return line
    return line[: max(limit - 1, 0)].rstrip() + "…"
