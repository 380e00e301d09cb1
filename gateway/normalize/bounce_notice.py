"""The notice of a bounce without a form, read line by line: which addresses failed, and what is said of each.

An address is a recipient by its place: at the begin of a line, after a label ("Recipient:", "RCPT TO:"), in a list
after such a one. Addresses that are only spoken of are second choice. Linear time over a bounded piece of text.
"""

# ruff: noqa: E501 -- what a mail system says is kept on one line

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from gateway.normalize import bounce_words
from gateway.normalize.bounce_signs import ADDRESS, DAEMONS, EVIDENCE_CODE, MAX_NOTICE_CHARS

MAX_DIAGNOSTIC_CHARS: Final = 2000
MAX_NOTICE_LINES: Final = 600
MAX_LINE_CHARS: Final = 1000
MAX_RECIPIENTS: Final = 100
_MAX_WORD_LINES: Final = 14
_NEAR_LINES: Final = 3
#: Reasons that mere politeness sounds like ("your message was rejected").
_WEAK_REASONS: Final = frozenset({"policy", "system_error", "content_refused"})

#: Where the notice ends and the returned mail begins.
_RETURNED: Final = re.compile(
    r"below this line is (?:a|the) copy|this is a copy of (?:the|your) message|copy of (?:the|"
    r"your) (?:original )?message|^\s{0,8}-{2,} ?original message|^\s{0,8}-{3,} ?start of|original message headers|"
    r"^\W{0,8}(?:the )?(?:original|returned) (?:message|mail) (?:follows|was|is|header|attached)|"
    r"message header(?:s)? follow|original message as received|first \d{1,4} lines of your|message reads|unsent message|"
    r"below is a copy of|^\s{0,8}-{3,} ?returned (?:mail|message)|--- ?the header of the original|"
    r"your original message|unsent message (?:follows|below)|"
    r"^-{3,}.{0,40}(?:kopie|copie|copia|ursprünglich|original).{0,40}|ursprüngliche (?:nachricht|kopfzeilen)|"
    r"ursprüngliche nachrichtenkopfzeilen|kopie ihrer nachricht|kopfzeilen der|en-têtes de message|"
    r"copie de votre message|encabezados de mensajes|copia (?:del|de su) mensaje|^return-path: |"
    r"^received: from|^dkim-signature:|^message-id: ",
    re.IGNORECASE,
)
_ADDRESS: Final = re.compile(r"(?<![\w.+=/@-])[\w.+=/&'*!#$%?^`{|}~-]{1,90}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}(?![\w@])")
_LEADING: Final = re.compile(
    r"^[\s>*•·\-–#\[(\"'<:=]{0,20}(?:[^<>@:]{1,60}<)?(?:smtp:|mailto:|rfc822;\s?)?$", re.IGNORECASE
)
#: What stands right before an address that is a recipient.
_LABEL: Final = re.compile(
    r"(?:recipients?|rcpt to|addressed to|(?:un)?deliver(?:y|ed|able)?\b.{0,40}\bto|address(?:es|see)?|unknown user|users?|"
    r"userid|mailbox|(?:failed|rejected|undeliverable|bounced)(?= {0,3}:)|allowed size|\d attempts|sent to|message to|mail to|error for|empfänger\w{0,4}|destinataires?|"
    r"destinatari[oa]s?|ontvangers?|mottagare|modtager|odbiorc\w{1,2}|adresát|címzett|получател\w{1,3}|alıcı|"
    r"宛先|受信者|收件人|收件者|받는 사람)(?:\(e?s\))?\s{0,3}[:=]?\s{0,10}[<\"'\[(]{0,3}(?:smtp:)?$",
    re.IGNORECASE,
)
#: Lines that repeat the head of the returned mail, or say whom to ask.
_OTHER_LABEL: Final = re.compile(
    r"^\W{0,12}(?:(?:original )?(?:to|cc|bcc|from|sender|subject|reply-to|mail from|return-path|message[- ]?id)\s{0,3}:|"
    r"(?:von|an|de|à|da|para|från|van|aan|kopie|betreff|asunto|objet)\s{0,3}:)|"
    r"\b(?:contact|assistance|help|abuse|postmaster|sent by|sender|forward|resend|reply to|write to)\b|\bfrom\W{0,4}$",
    re.IGNORECASE,
)
_MADE_FROM: Final = re.compile(
    r"(?:expanded from|generated from|originally addressed to|forwarded from|original address)\W{0,12}$", re.IGNORECASE
)
#: What is written right in front of an address: "dda:SMTP=", the reply code of a folded line.
_GLUED: Final = re.compile(r"^(?:smtp=|rfc822=|[45]\d\d-)", re.IGNORECASE)
_BETWEEN: Final = re.compile(r"[>\"'\s]{0,5}[,;][<\"'\s]{0,5}")
_CUE: Final = re.compile(
    r"recipient|deliver|address|\bto\b|rcpt|user|mailbox|failed|unable|reach|empfänger|zugestellt|destinataire|"
    r"adresse|destinatari|dirección|indirizzo|endereço|ontvanger|mottagare|modtager|odbiorc|příjemc|címzett|"
    r"получател|адрес|alıcı|收件人|收件者|宛先|受信者|アドレス|받는|수신|người nhận|\bat\b|sent to|message for|mail for|"
    r"\bfor\b|\ban\b|\bà\b|\bpara\b",
    re.IGNORECASE,
)
#: AOL and directory gateways name the mailbox without its domain.
_BARE_NAME: Final = re.compile(r"^\s{1,12}([A-Za-z0-9][\w.-]{2,60})$")
_BARE_CUE: Final = re.compile(r"recipients?\b.{0,200}:\s{0,3}$|not delivered to.{0,40}:\s{0,3}$", re.IGNORECASE)
_STATUS: Final = re.compile(r"(?<![\d.])([245])[.](\d{1,3})[.](\d{1,3})(?![\d]|\.\d)")
_CODE: Final = re.compile(r"(?:^|[\s:;#('\"=<\[])([245][0-5]\d)(?=[\s\-#;:,)'\"\]]|\.\s|$)")


@dataclass(frozen=True, slots=True)
class Told:
    """What a notice says of one address. ``is_named``: it stands where recipients stand, not just somewhere."""

    address: str
    words: str = ""
    made_from: str | None = None  #: the address that we wrote to, when the system says that it was rewritten
    is_named: bool = True


def cut_notice(text: str) -> str:
    """Return the machine's own words: what stands before the returned mail."""
    kept: list[str] = []
    is_anyone_named = False
    for number, line in enumerate(text[:MAX_NOTICE_CHARS].split("\n")[:MAX_NOTICE_LINES]):
        line = line[:MAX_LINE_CHARS].rstrip()
        if number > 1 and is_anyone_named and _RETURNED.search(line):
            break
        is_anyone_named = is_anyone_named or ADDRESS.search(line) is not None
        kept.append(line)
    return "\n".join(kept)


def read_told(notice: str, ours: frozenset[str]) -> list[Told]:
    """Return the addresses that the lines present as recipients, each once, with the words that follow it."""
    told: dict[str, Told] = {}
    words: dict[str, list[str]] = {}
    current = ""
    cue = -10
    is_open_remark = False
    for number, line in enumerate(notice.split("\n")):
        opened = False
        for before, address, after in _addresses(line):
            if (_MADE_FROM.search(before) or (is_open_remark and _LEADING.match(before))) and current:
                if told[current].made_from is None:
                    told[current] = replace(told[current], made_from=address)
                continue
            known = told.get(address.lower())
            if (known and known.is_named) or is_other(address, ours) or len(told) >= MAX_RECIPIENTS:
                continue
            place = _place(before, after, lines_since_cue=number - cue, is_listed=opened)
            if place and opened and _BETWEEN.fullmatch(before):
                place = told[current].is_named
            elif place is None or (not place and told):  # the first that is spoken of is the best of those
                continue
            current, opened = address.lower(), True
            told[current] = Told(address, is_named=place)
            words[current] = [after.lstrip("> \t)]:;,'\"")]
        if current and not opened and line.strip() and len(words[current]) < _MAX_WORD_LINES:
            words[current].append(line.strip())
        is_open_remark = _MADE_FROM.search(line) is not None
        if _CUE.search(line):
            cue = number
    return [
        replace(one, words=" ".join(" ".join(words[key]).split())[:MAX_DIAGNOSTIC_CHARS]) for key, one in told.items()
    ]


def _addresses(line: str) -> Iterator[tuple[str, str, str]]:
    """Yield ``(before, address, after)`` for each address; ``before`` is only the comma for one in a list."""
    end = 0
    for found in islice(ADDRESS.finditer(line), MAX_RECIPIENTS):
        is_next = end and _BETWEEN.fullmatch(line, end, found.start())
        address = _GLUED.sub("", found[0])
        yield line[end if is_next else 0 : found.start()], address.strip(".'"), line[found.end() :]
        end = found.end()


def _place(before: str, after: str, *, lines_since_cue: int, is_listed: bool) -> bool | None:
    """Return True where recipients stand, False where one is spoken of, None elsewhere."""
    if _OTHER_LABEL.search(before[-80:]) and not _MADE_FROM.search(before):
        return None
    if _BETWEEN.fullmatch(before) and before.strip(" >"):
        return True if is_listed else None
    tail = after.lstrip("> \t)]'\"")
    is_near = lines_since_cue <= _NEAR_LINES
    if _LEADING.match(before):
        return True if is_near or not tail or tail[0] in ":;,(" or after[:1] in ">)" else None
    if before.lower().rstrip().endswith("dda:") and is_near:
        return True
    if find_code(before) is not None:
        return None
    if _LABEL.search(before[-80:]):
        return True
    return False if _CUE.search(before) is not None else None


def is_other(address: str, ours: frozenset[str]) -> bool:
    """Whether the address is ours, or an office of the mail system."""
    local = address.partition("@")[0].lower()
    return (
        address.lower() in ours
        or (DAEMONS.match(local) is not None and not local.startswith("bounce"))
        or local in ("postmaster", "abuse", "support-noreply")
    )


def bare_names(notice: str, domain: str) -> list[str]:
    """Return the mailboxes named without a domain, right after a line that says that now they come."""
    names: list[str] = []
    is_listing = False
    for line in notice.split("\n"):
        found = _BARE_NAME.match(line)
        if found and is_listing and len(names) < MAX_RECIPIENTS:
            names.append(f"{found[1]}@{domain}")
        elif line.strip():
            is_listing = _BARE_CUE.search(line[-260:]) is not None
    return names


def any_address(notice: str, ours: frozenset[str]) -> list[str]:
    """Return the first address that is not ours, wherever it stands."""
    for found in ADDRESS.finditer(notice):
        if not is_other(found[0], ours):
            return [found[0].strip(".'")]
    return []


def find_diagnostic(notice: str) -> str:
    """Return the lines from the first on that gives a code or a reason; without one, the start of the notice."""
    lines = [line.strip() for line in notice.split("\n")]
    for number, line in enumerate(lines):
        if line and (_STATUS.search(line) or EVIDENCE_CODE.search(line)):
            return _joined(lines[number : number + 4])
    second = None
    for number, line in enumerate(lines):
        reason = bounce_words.find_reason(line) if line and not _OTHER_LABEL.match(line) else None
        if reason is not None and reason not in _WEAK_REASONS:
            return _joined(lines[number : number + 3])
        if reason is not None and second is None:
            second = number
    return _joined(lines if second is None else lines[second : second + 3])


def _joined(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())[:MAX_DIAGNOSTIC_CHARS]


def says_why(words: str) -> bool:
    """Whether the words give a code, or a reason that is more than politeness."""
    if find_status(words) or (find_code(words) or 0) >= 400:
        return True
    return bounce_words.find_reason(words) not in (None, *_WEAK_REASONS)


def find_status(text: str) -> str | None:
    """Return the first enhanced code (RFC 3463) that is not part of an IP address or a version."""
    match = _STATUS.search(text[:4000])
    return f"{match[1]}.{int(match[2])}.{int(match[3])}" if match else None


def find_code(text: str) -> int | None:
    """Return the first three-digit SMTP reply of a refusal."""
    codes = [int(match[1]) for match in _CODE.finditer(text[:4000])]
    return next((code for code in codes if code >= 400), None) or (codes[0] if codes else None)
