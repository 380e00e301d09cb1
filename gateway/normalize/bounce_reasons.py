"""Why a mail was refused, in one word, from the enhanced code, the reply code and the words of the other side.

Sources: RFC 3463 with its registry, RFC 5321 section 4.2, RFC 7372, RFC 7505; the refusal texts of Gmail, Microsoft,
Yahoo, Postfix, Exim, Sendmail, qmail, Mimecast, Barracuda, Proofpoint and others. The first digit of the reply
decides now or never; the enhanced code only refines it (FAULTS F-S02).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.normalize import bounce_words

#: Word -> (whose side it is, whether a 5xx with it is meant for good).
REASONS: Final[dict[str, tuple[str, bool]]] = {
    "no_such_mailbox": ("recipient", True),
    "no_such_domain": ("recipient", True),
    "bad_address": ("recipient", True),
    "ambiguous_address": ("recipient", True),
    "moved": ("recipient", True),
    "mailbox_disabled": ("recipient", True),
    "mailbox_full": ("recipient", False),
    "takes_no_mail": ("recipient", True),
    "owner_changed": ("recipient", True),
    "list_problem": ("recipient", True),
    "not_allowed": ("policy", True),  # the recipient or list takes no mail from us
    "too_big": ("content", True),
    "content_refused": ("content", True),
    "virus": ("content", True),
    "encoding": ("content", True),
    "spam": ("policy", True),
    "blocked": ("policy", True),
    "policy": ("policy", True),
    "relay_denied": ("policy", True),
    "authentication": ("ours", True),  # SPF, DKIM, DMARC
    "reverse_dns": ("ours", True),
    "sender_refused": ("ours", True),
    "tls": ("ours", True),
    "protocol": ("ours", True),
    "too_many_recipients": ("ours", False),
    "rate_limited": ("ours", False),
    "login": ("login", True),
    "greylisted": ("theirs", False),
    "system_full": ("theirs", False),
    "system_error": ("theirs", True),
    "not_reachable": ("theirs", True),
    "dns_failure": ("theirs", True),
    "loop": ("theirs", True),
    "expired": ("theirs", True),
    "other": ("theirs", True),
}


@dataclass(frozen=True, slots=True)
class Reason:
    """``side``: recipient | theirs | ours | content | policy | login. ``is_permanent``: trying again is no use."""

    word: str
    side: str
    is_permanent: bool


#: subject.detail of RFC 3463 and the registry -> word.
_CODES: Final = {
    "1.0": "bad_address", "1.1": "no_such_mailbox", "1.2": "no_such_domain", "1.3": "bad_address",
    "1.4": "ambiguous_address", "1.6": "moved", "1.7": "sender_refused", "1.8": "sender_refused",
    "1.10": "takes_no_mail", "1.90": "rate_limited", "2.1": "mailbox_disabled", "2.2": "mailbox_full",
    "2.3": "too_big",
    "2.4": "list_problem", "2.121": "rate_limited", "2.122": "rate_limited",
    "3.0": "system_error", "3.1": "system_full", "3.2": "system_error",
    "3.3": "content_refused", "3.4": "too_big", "3.5": "system_error", "4.0": "not_reachable",
    "4.1": "not_reachable", "4.2": "not_reachable", "4.3": "dns_failure", "4.4": "not_reachable",
    "4.5": "system_full", "4.6": "loop", "4.7": "expired", "4.8": "reverse_dns", "4.14": "loop",
    "4.312": "dns_failure", "4.316": "not_reachable", "4.317": "not_reachable", "4.310": "dns_failure",
    "5.0": "protocol", "5.1": "protocol", "5.2": "protocol", "5.3": "too_many_recipients", "5.4": "protocol",
    "5.5": "protocol", "5.6": "protocol", "6.0": "content_refused", "6.1": "content_refused", "6.2": "encoding",
    "6.3": "encoding", "6.4": "encoding", "6.5": "encoding", "6.6": "content_refused", "6.7": "encoding",
    "6.8": "encoding", "6.9": "encoding", "6.10": "encoding", "6.11": "protocol", "7.0": "policy", "7.1": "policy",
    "7.2": "not_allowed", "7.3": "tls", "7.4": "tls", "7.5": "tls", "7.6": "tls", "7.7": "content_refused",
    "7.8": "login", "7.9": "login", "7.10": "tls", "7.11": "tls", "7.12": "login", "7.13": "login", "7.14": "login",
    "7.15": "system_full", "7.16": "too_big", "7.17": "owner_changed", "7.18": "owner_changed",
    "7.19": "other", "7.20": "authentication", "7.21": "authentication", "7.22": "authentication",
    "7.23": "authentication", "7.24": "authentication", "7.25": "reverse_dns", "7.26": "authentication",
    "7.27": "sender_refused", "7.28": "rate_limited", "7.29": "authentication", "7.30": "tls",
    "7.57": "login", "7.60": "login", "7.124": "not_allowed", "7.133": "not_allowed", "7.134": "not_allowed",
    "7.135": "not_allowed", "7.136": "not_allowed", "7.139": "login", "7.232": "rate_limited",
    "7.233": "rate_limited", "7.506": "spam", "7.509": "authentication",
    "7.511": "blocked", "7.705": "rate_limited", "7.708": "blocked", "7.750": "sender_refused",
}  # fmt: skip

#: Codes that say so little, or are used for so many things, that the words beside them count for more.
_VAGUE: Final = frozenset(
    """
    0.0 1.0 1.9 1.10 2.0 2.1 3.0 3.2 3.5 3.9 4.0 4.1 4.4 4.7 5.0 5.1 5.2 5.4 6.0 7.0 7.1 7.3 7.5 7.7 7.9 7.17 7.18
    """.split()  # noqa: SIM905  one line of codes reads better than thirty
)
#: To log in is a matter between us and our own relay; a stranger who says so with another code means a policy.
_LOGIN_REPLIES: Final = frozenset({None, 454, 530, 534, 535, 538})
#: Words that are believed even against a definite code of the same subject.
_STRONG: Final = frozenset({"mailbox_full", "greylisted", "rate_limited", "loop"})

_REPLIES: Final = {
    421: "not_reachable", 432: "rate_limited", 452: "system_full", 454: "tls", 500: "protocol", 501: "protocol",
    502: "protocol", 503: "protocol", 504: "protocol", 521: "takes_no_mail", 530: "login", 534: "login",
    535: "login", 538: "tls", 550: "no_such_mailbox", 551: "moved", 552: "mailbox_full", 553: "bad_address",
    554: "policy", 555: "protocol", 556: "takes_no_mail",
}  # fmt: skip


def classify(status: str | None, code: int | None, diagnostic: str) -> Reason:
    """Return why, from an enhanced code (``5.1.1``), a reply code (550) and the words beside them.

    A vague code (``5.0.0``, ``5.7.1``) leaves the word to the text, a definite one keeps it. Raises nothing.
    """
    digit = _first_digit(status, code)
    word = _find_word(status, code, diagnostic)
    side, is_final_word = REASONS[word]
    is_expired = status is not None and status.partition(".")[2] == "4.7" and word == "expired"
    if digit == "2":
        is_permanent = False
    elif digit == "5":
        is_permanent = is_final_word
    else:
        # X.4.7: the other side has already tried for days
        is_permanent = is_expired
    return Reason(word, side, is_permanent)


def is_given_up(reason: Reason, status: str | None, code: int | None) -> bool:
    """Whether a mail system that failed for this reason means it for good; without any code its words decide."""
    if status is None and code is None:
        return reason.side in ("recipient", "content", "policy") and REASONS[reason.word][1]
    return reason.is_permanent


def _first_digit(status: str | None, code: int | None) -> str:
    if code is not None:
        return str(code)[:1]
    if status:
        return status[:1]
    return ""


def _find_word(status: str | None, code: int | None, diagnostic: str) -> str:
    detail = status.partition(".")[2] if status else ""
    coded = _word_of_code(detail)
    spoken = bounce_words.find_reason(diagnostic)
    if coded == "login" and code not in _LOGIN_REPLIES:
        coded = spoken if spoken not in (None, "login") else "policy"
    if coded is not None and detail not in _VAGUE:
        return spoken if spoken in _STRONG and detail[:1] in "1245" and detail not in ("4.6", "4.14") else coded
    if detail == "7.1" and spoken == "no_such_mailbox" and code == 454:
        return "policy"
    if spoken is not None and not (spoken in ("policy", "system_error", "content_refused") and coded):
        return spoken
    if coded is not None and detail != "0.0":
        return coded
    if code in _REPLIES:
        return spoken or _REPLIES[code]
    return spoken or coded or "other"


def _word_of_code(detail: str) -> str | None:
    if detail in _CODES:
        return _CODES[detail]
    subject, _, number = detail.partition(".")
    if subject == "7" and number.isdecimal():
        n = int(number)
        if 606 <= n <= 649 or 501 <= n <= 503 or n == 511:
            return "blocked"
        if 500 <= n <= 699:
            return "rate_limited" if n in (500, 650) else "policy"
    families = {"1": "no_such_mailbox", "2": None, "3": "system_error", "4": "not_reachable", "5": "protocol",
                "6": "content_refused", "7": "policy"}  # fmt: skip
    return families.get(subject)
