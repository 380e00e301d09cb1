"""What one line (or up to four wrapped ones) of a mail says about quoting: attribution, header, rule, signature.

Structure first, words second: an attribution is recognised by how many of address, date, time, "wrote" and colon
it has, so that a language missing in ``quote_words`` still works. Nothing here decides what is cut; ``quotes``
does. Every pattern is linear and runs on at most ``MAX_LINE`` characters (T-D12).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from gateway.normalize import quote_words
from gateway.normalize.quote_words import DATE, FROM, SUBJECT, TO

MAX_LINE: Final = 400
MAX_HEADER_LINES: Final = 16
MAX_MOBILE: Final = 110  # characters of "Sent from my …" when runs of blanks are one
MAX_BARE_MARKER: Final = 100  # characters of "reply above this line" without dashes around it
ADDRESS, DATED, TIMED, VERB = 1, 2, 4, 8

_ADDRESS = re.compile(r"[^\s<>@\"',;:()\[\]]{1,80}@[^\s<>@\"',;:()\[\]]{2,200}")
_YEAR = re.compile(r"(?<!\d)(?:19|20|25)\d\d(?!\d)")
_NUMERIC_DATE = re.compile(r"(?<!\d)\d{1,4}([./-]) ?\d{1,2}\1 ?\d{1,4}(?!\d)")
_TIME = re.compile(r"(?<!\d)\d{1,2}[:.h٫]\d{2}(?!\d)|\d[時点點시]|\d Uhr")
_WORD = re.compile(r"[^\W\d_]+(?:\([^\W\d_]{1,3}\))?")
_DIGITS = str.maketrans({chr(base + n): str(n) for base in (0x660, 0x6F0, 0x966, 0xE50, 0xFF10) for n in range(10)})
_UNUSUAL = re.compile(f"[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u00ad{''.join(map(chr, _DIGITS))}]")
_FRAMED_ADDRESS = re.compile(r"[<(\[][^\s<>()\[\]]{1,80}@[^\s<>()\[\]]{2,200}[>)\]]")
#: How those begin in UTF-8. Looking for a byte is many times as fast as for a class of characters.
_UNUSUAL_BYTES = (b"\xd9", b"\xdb", b"\xe0", b"\xe2", b"\xef")
_COLON_END = re.compile(r"(?:[:：﹕]|:\)?)[\s*_\"”»>]{0,4}$")
_RULE = re.compile(r"^\s{0,4}(?:[_‗]{5,}|[-‐–—─━]{8,}|={8,}|\*{8,})\s*$")
#: The same where a header block stands right under it: Markdown's rules, too.
_SHORT_RULE = re.compile(r"^\s{0,4}(?:[-‐–—─━]{3,}|_{3,}|={3,}|\*(?: ?\*){2,})\s*$")
_ZONED_TIME = re.compile(r"\d{1,2}:\d\d(?::\d\d)? ?(?:[+-]\d{4}|GMT|UTC)")
_LABEL = re.compile(r"^[\s*_>|]{0,8}([^:：\d@/]{1,30}?)[\s*_]{0,4}[:：][\s*_]{0,6}(.*)$")
_INNER_LABEL = re.compile(r"\s([^\W\d]{2,14})\s?:")
_BAR = re.compile(r"^ {0,2}\|(?: |$)")
_INITIALS = re.compile(r"^ {0,3}[A-Za-z]{1,4}>")
_DELIMITER = re.compile(r"^(?:--|—|– –|-- ?\xa0?)[ \xa0\t]*$")
_VERB_PART = re.compile("|".join(map(re.escape, quote_words.VERB_PARTS)))
_LINK = re.compile(
    r"<(?:https?:|mailto:|www\.)[^<>]{0,300}>|\(https?:[^()\s]{0,300}\)|\[https?:[^\[\]\s]{0,300}\]|https?://\S{1,300}"
)


@dataclass(slots=True)
class Lines:
    """The lines of a body with what was found out about them, each question asked once (linear time)."""

    text: list[str]  #: ``plain``
    blank: list[bool]
    marked: list[bool]  #: begins with a quote mark, or stands in a block quote
    following: list[int]  #: for each line the next one that is not blank, or the number of lines
    _signs: list[int] = field(default_factory=list)
    _labels: list[tuple[str, str] | bool | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._signs = [-1] * len(self.text)
        self._labels = [False] * len(self.text)

    def __len__(self) -> int:
        return len(self.text)

    def signs(self, at: int) -> int:
        if self._signs[at] < 0:
            self._signs[at] = signs(self.text[at])
        return self._signs[at]

    def label(self, at: int) -> tuple[str, str] | None:
        known = self._labels[at]
        if isinstance(known, bool):
            known = self._labels[at] = header_label(self.text[at])
        return known

    def is_quote_next(self, at: int) -> bool:
        after = self.following[at]
        return after < len(self.text) and after - at <= 3 and (self.marked[after] or is_odd_prefix(self.text[after]))


def is_odd_prefix(line: str) -> bool:
    """ "| " and "JD> ": quote marks of a few clients, trusted only below an attribution."""
    front = line[:8]
    return ("|" in front and _BAR.match(line) is not None) or (">" in front and _INITIALS.match(line) is not None)


def plain(lines: Sequence[str]) -> list[str]:
    """Return the lines, cut, without invisible marks (Apple Mail wraps right-to-left attributions in them)."""
    cut = [line[:MAX_LINE] for line in lines]
    whole = "".join(cut)
    if whole.isascii():
        return cut
    encoded = whole.encode("utf-8", "surrogatepass")
    if "\xad" not in whole and not any(first in encoded for first in _UNUSUAL_BYTES):
        return cut
    if _UNUSUAL.search(whole) is None:
        return cut
    return [line if line.isascii() else _UNUSUAL.sub(_usual, line) for line in cut]


def _usual(match: re.Match[str]) -> str:
    return _DIGITS.get(ord(match[0]), "")


def may_introduce(line: str) -> bool:
    """Whether any rule here could find the beginning of a quote in the line; False for nearly all prose.

    Each question stands for the rules that need it, so that they look only at lines where they can say yes: a
    colon or an address, dashes at the front, "reply above this line", "wrote" at the end.
    """
    if ":" in line or "@" in line or line.lstrip()[:1] in _LEADS:
        return True
    last = line.rstrip(" .*_-:)").rpartition(" ")[2].casefold()
    if last in _LAST_WORDS:
        return True
    if line.isascii():
        return False
    if "：" in line or "﹕" in line or (len(line) < MAX_BARE_MARKER and _REPLY.search(line.casefold())):
        return True
    return not last.isascii() and (_has_verb_part(last) if last.isalpha() else _has_verb(last))


def signs(line: str) -> int:
    """Return the bit set of what an attribution would have that this line has."""
    found = 0
    if "@" in line and _ADDRESS.search(line):
        found |= ADDRESS
    if _YEAR.search(line) or _NUMERIC_DATE.search(line):
        found |= DATED
    if _TIME.search(line):
        found |= TIMED
    if _has_verb(line):
        found |= VERB
    return found


def _has_verb(line: str) -> bool:
    return not quote_words.VERBS.isdisjoint(_tokens(line)) or (not line.isascii() and _has_verb_part(line))


def _has_verb_part(line: str) -> bool:
    return _VERB_PART.search(line) is not None


def _tokens(line: str) -> list[str]:
    return [word.split("(")[0] for word in _WORD.findall(line.casefold())]


def ends_with_colon(line: str) -> bool:
    tail = line[-12:]
    if ":" not in tail and "：" not in tail and "﹕" not in tail:
        # Zoho: "---- On …, Jane <jane@x.test> wrote ----"
        return line.startswith("--") and line.rstrip().endswith("--") and _has_verb(line)
    return _COLON_END.search(tail) is not None


def may_end_attribution(line: str, *, is_quote_next: bool) -> bool:
    """The cheap question asked of every line before ``find_attribution`` looks closer."""
    if ends_with_colon(line):
        return True
    if is_quote_next:
        return any(sign in line for sign in ("@", ":", "20")) or _has_verb(line)
    return "@" in line or _last_word_is_verb(line)


def _last_word_is_verb(line: str) -> bool:
    last = line.rstrip(" .*_").rpartition(" ")[2].casefold()
    if last in quote_words.VERBS:
        return True
    if last.isascii():
        return False
    return _has_verb_part(last) if last.isalpha() else _has_verb(last)


def find_attribution(lines: Lines, end: int, *, first: int, is_quote_next: bool) -> int | None:
    """Return where the attribution that ends with line ``end`` begins, or None when it is none.

    At most three lines before ``end`` and none before ``first`` are looked at. The longest reading whose first
    line looks like a beginning wins, so that "On Mon … Jane" is not left behind when "<jane@x.test> wrote:" was
    wrapped onto a line of its own.
    """
    text, reach = lines.text, end
    while reach > first and end - reach < 3 and not lines.blank[reach - 1] and len(text[reach - 1]) < 120:
        reach -= 1
        if ends_with_colon(text[reach]):
            reach += 1  # a thing of its own
            break
    masks = [lines.signs(at) for at in range(reach, end + 1)]
    has_colon = ends_with_colon(text[end])
    for begin in range(reach, end + 1):
        own, mask = masks[begin - reach], 0
        for sign in masks[begin - reach :]:
            mask |= sign
        if not _is_possible(mask, has_colon=has_colon, is_quote_next=is_quote_next):
            continue
        is_name_above = begin == end - 1 and own & (ADDRESS | VERB) and not masks[-1] & ADDRESS
        if begin < end and not is_name_above and not (own and _begins(text[begin])):
            continue
        joined = " ".join(line.strip() for line in text[begin : end + 1])
        if _is_attribution(joined, mask, has_colon=has_colon, is_quote_next=is_quote_next):
            return begin
    return None


def _is_possible(mask: int, *, has_colon: bool, is_quote_next: bool) -> bool:
    """Whether the signs could do at all; asked before words are counted."""
    if not mask & (VERB | ADDRESS) and not (is_quote_next and has_colon):
        return False
    if is_quote_next:
        return True
    strength = mask.bit_count()
    return strength == 4 or (has_colon and (strength == 3 or bool(mask & VERB)))


def unglue(line: str, *, rest: str) -> Sequence[str]:
    """Return the line, broken before an attribution and around a separator that stand behind other words in it.

    Some phones and converters drop the line break: "Thanks! On Mon, 4 May 2020 Jane <jane@x.test> wrote:". ``rest``
    is the next line if the attribution may go on there.
    """
    if len(line) > MAX_LINE or _PREFIXED.match(line):
        return (line,)
    if "-----" in line[1:] and not rest:
        found = _GLUED_SEPARATOR.search(line)
        if found and _fold(found[2].strip()) in quote_words.SEPARATORS:
            pieces = (found[1].rstrip(), line[found.end(1) : found.end()], line[found.end() :])
            return [piece for piece in pieces if piece.strip()]
    if not ends_with_colon(rest or line):
        return (line,)
    starts = list(_GLUED_OPENER.finditer(line))
    for start in starts[-2:]:
        tail = f"{line[start.end() :]} {rest}".strip()
        mask = signs(tail)
        if mask & VERB and mask & DATED and _is_attribution(tail, mask, has_colon=True, is_quote_next=False):
            return (line[: start.start()], line[start.start() :].lstrip())
    return (line,)


_PREFIXED = re.compile(r"[ \t\xa0]{0,8}[>|]")
_GLUED_SEPARATOR = re.compile(r"^((?:[^-]|-(?!----)){0,300})-{5,}([^-]{4,60})-{5,}")
#: An opener in upper case that a date follows, behind a word or its punctuation: " On Wed, Apr 4", "--- Am 4."
_GLUED_OPENER = re.compile(
    r"(?<=[^\s<>|\"'(\[*_-])(?:[ \t]+|[ \t]*-{2,}[ \t]*)"
    r"(?=(?:On|Am|Le|El|Il|Em|Op|Den|Dne|Dnia|W dniu|Pe|Dana|Vào) (?:[^\W\d]{2,12}[.,]{0,2} ){0,2}\d)"
)


def _begins(line: str) -> bool:
    """Whether the line could be the first one of an attribution: "On …", a digit, "lun. …", "Mon, …"."""
    stripped = line.strip(" \t\xa0*_-\"'“„«>")
    if not stripped:
        return False
    if stripped[0].isdigit() or ord(stripped[0]) > 0x2E80 or stripped.startswith(("ב", "ใ", "เ")):
        return True
    words = stripped.casefold().split(None, 2)
    return words[0].rstrip(".,") in quote_words.OPENERS or any(word[-1] in ",." for word in words[:2])


def _is_attribution(line: str, mask: int, *, has_colon: bool, is_quote_next: bool) -> bool:
    if not mask or len(line) > 2 * MAX_LINE:
        return False
    words = _tokens(_ADDRESS.sub(" ", line))
    if len(words) > 40:
        return False
    has_verb, has_address = bool(mask & VERB), bool(mask & ADDRESS)
    has_date, has_time = bool(mask & DATED), bool(mask & TIMED)
    strength = mask.bit_count()
    if has_verb and has_colon and len(words) <= 8 and line.startswith("--") and line.rstrip().endswith("--"):
        return True  # Android's mail program: "---- Jane Doe wrote ----"
    is_personal = _is_personal(words)
    if is_quote_next:
        if is_personal and not (has_date or has_time):
            return False
        if has_colon:
            return (
                (has_verb and (strength > 1 or len(words) <= 6))
                or (has_address and len(words) <= 14)
                or (has_date and has_time and len(words) <= 12)
            )
        if has_address and has_date and not has_verb:
            return len(words) <= 10 and _begins(line)  # "2013/10/2 Jane Doe <jane@x.test>"
        return (has_verb and strength >= 2 and len(words) <= 25) or strength == 4
    if is_personal and has_colon and has_address and words[:2] == ["in", "message"]:
        return True
    if is_personal:
        # "At 6/16/2016 08:32 PM, you wrote:" is Eudora's
        return has_colon and strength == 3 and not has_address and words[-2:] == ["you", "wrote"] and len(words) <= 6
    if has_verb and not has_address and _runs_on(line):
        return False
    if not has_colon:
        return len(words) <= 25 and _begins(line) and not line.rstrip().endswith((".", "?", "!"))
    if not has_verb:
        # nothing says that it is a mail, so it must look like one: "Mon, 4 May 2020, 10:21, Jane <jane@x.test>:"
        is_begun = _begins(line)
        is_framed = (is_begun and len(words) >= 2) or _FRAMED_ADDRESS.search(line) is not None
        return strength == 3 and len(words) <= 16 and is_framed and _count_prose(line) <= (2 if is_begun else 0)
    return (
        (has_date and (has_time or has_address or _begins(line)))
        or (has_time and has_address)
        or (has_address and len(words) <= 8)
    )


def _count_prose(line: str) -> int:
    """How many words are neither names nor months nor what usually joins these."""
    return sum(
        1
        for word in _WORD.findall(_ADDRESS.sub(" ", line))
        if len(word) > 2 and word.islower() and word.isascii() and word not in quote_words.JOINERS
    )


def _is_personal(words: Sequence[str]) -> bool:
    return any(pair in quote_words.PRONOUN_PAIRS for pair in pairwise(words))


def _runs_on(line: str) -> bool:
    """Whether the sentence goes on after the verb in lower case: "… our technician wrote in the log:"."""
    after: list[str] | None = None
    for word in _WORD.findall(line):
        if word.casefold().split("(")[0] in quote_words.VERBS:
            after = []
        elif after is not None:
            after.append(word)
    plain_words = [w for w in after or () if w.islower() and w.isascii() and w not in quote_words.JOINERS]
    return len(plain_words) >= 2 or (len(plain_words) == 1 and len(after or ()) == 1)


def header_label(line: str) -> tuple[str, str] | None:
    """Return ``(kind, value)`` when the line reads like a header of a quoted mail: "*Von:* Jane"."""
    if ":" not in line[:44] and "：" not in line[:44]:
        return None
    match = _LABEL.match(line)
    if match is None:
        return None
    kind = quote_words.LABELS.get(match[1].strip(" \t\xa0*_\"'").casefold().replace("\u3000", ""))
    return (kind, match[2].strip(" \t\xa0*_")) if kind else None


def header_block_end(lines: Lines, start: int, *, is_announced: bool) -> int | None:
    """Return the line after the header block that starts at ``start``, or None when it is none.

    ``is_announced``: a rule or "Original Message" stands above, so that less is asked of the block. A travel
    request ("From: Berlin", "To: Paris") and a contact form ("From: …", "Subject: …") are not blocks.
    """
    kinds: dict[str, str] = {}
    at, blanks, strays = start, 0, 0
    last = start
    while at < len(lines) and at - start < MAX_HEADER_LINES:
        label = lines.label(at)
        if label is not None:
            kinds.setdefault(label[0], label[1])
            if is_announced or lines.text[at].count(":") > 3:
                for other in _INNER_LABEL.findall(label[1]):  # converters put a block on one line
                    if kind := quote_words.LABELS.get(other.casefold()):
                        kinds.setdefault(kind, label[1])
            last, blanks, strays = at, 0, 0
        elif lines.blank[at]:
            blanks += 1
            if blanks > 1 or _has_all(kinds):
                break
        elif blanks or strays >= 3 or not kinds or _has_all(kinds):
            break
        else:
            strays += 1  # a folded list of recipients, or a value on a line of its own
            for kind, value in kinds.items():
                if not value:
                    kinds[kind] = lines.text[at]
        at += 1
    return last + 1 if _is_block(kinds, is_announced=is_announced) else None


def _has_all(kinds: dict[str, str]) -> bool:
    return all(kind in kinds for kind in (FROM, DATE, TO, SUBJECT))


def _is_block(kinds: dict[str, str], *, is_announced: bool) -> bool:
    main = [kind for kind in (FROM, DATE, TO, SUBJECT) if kind in kinds]
    if FROM not in kinds or len(main) < 2:
        # "Date: Wed, 16 May 2012 00:15:02 -0600" and "To: …" are a mail's; a form has no time zone
        return TO in kinds and "@" in kinds[TO] and _ZONED_TIME.search(kinds.get(DATE, "")) is not None
    if is_announced:
        return True
    has_address = "@" in kinds[FROM] or "@" in kinds.get(TO, "")
    when = signs(kinds.get(DATE, ""))
    has_date = bool(when & (DATED | TIMED))
    if len(main) == 4:
        return has_date or has_address
    if len(main) == 3:
        if SUBJECT not in kinds:
            return has_address and has_date
        return has_address if DATE not in kinds else has_date and (has_address or bool(when & TIMED))
    return False


def is_separator(line: str) -> bool:
    """ "-----Original Message-----" and "Begin forwarded message:" in the languages of ``quote_words``."""
    text = line.strip(" \t\xa0*>")
    if not text or len(line) > 120:
        return False
    if text[-1] in ":：" and _fold(text).rstrip(":： \xa0") in quote_words.FORWARD_LINES:
        return True
    phrase, is_closed = _between_dashes(text)
    if phrase in quote_words.SEPARATORS:
        return True
    # "-----Original Message by Jane-----", "----- Mail original de Jean -----", "---- Forwarded by X on 5/5 ----"
    return is_closed and any(phrase.startswith((known + " ", known + "(")) for known in _OPEN_SEPARATORS)


_DASH_CHARS = "-_=*~‐‑–—─━#+"
_DASHES = frozenset(_DASH_CHARS)
_LEADS = _DASHES | frozenset("‗>")
_OPEN_SEPARATORS = (
    "forwarded by", "forwarded message", "original message", "original mail", "weitergeleitet von",
    "ursprüngliche nachricht", "mail original", "message original", "réacheminé par", "transféré par",
    "mensaje original", "reenviado por", "inoltrato da", "encaminhado por", "doorgestuurd door", "vidarebefordrat av",
    "original von", "originalmeddelande", "oprindelig meddelelse", "przekazane przez",
)  # fmt: skip


def _between_dashes(text: str) -> tuple[str, bool]:
    """Return the case-folded words after two dashes or more, and whether dashes follow them; else ("", False)."""
    if text[:1] not in _DASHES or text[1:2] not in _DASHES:
        return "", False
    tail = text.rstrip(" \t\xa0:：")
    inner = tail.rstrip(_DASH_CHARS)
    return _fold(inner.strip(_DASH_CHARS + " \t\xa0:：")), len(tail) - len(inner) >= 2


def _fold(text: str) -> str:
    return text.replace("İ", "i").casefold()  # Python folds the Turkish letter into two characters


def is_bare_separator(line: str) -> bool:
    """ "Reply message" without dashes: a separator only right above a header block."""
    return len(line) < 60 and _fold(line.strip(" \t\xa0*_:")) in quote_words.SEPARATORS


def is_dashed(line: str) -> bool:
    """Dashes, words, dashes: a separator of an unknown language when a header block follows."""
    if len(line) > 120:
        return False
    phrase, is_closed = _between_dashes(line.strip(" \t\xa0>"))
    return is_closed and bool(phrase)


def is_rule(line: str) -> bool:
    return _RULE.match(line) is not None


def is_short_rule(line: str) -> bool:
    return len(line) < 120 and _SHORT_RULE.match(line) is not None


def is_reply_marker(line: str) -> bool:
    """ "##- Please type your reply above this line -##" and its relatives."""
    if len(line) > 300:
        return False
    is_dashed_line = line.lstrip(" \t>\xa0")[:1] in _DASHES
    bare = line.strip(" \t\xa0>")
    if bare.startswith(_HASH_OPENINGS) and bare.endswith(_HASH_ENDINGS) and len(bare) > 8:
        return True
    if not is_dashed_line:
        if len(line) >= MAX_BARE_MARKER:
            return False
        if line.isascii() and line.rstrip(" .-:*)").rpartition(" ")[2].lower() not in _ABOVE_WHAT:
            return False
    folded = line.casefold()
    if not _is_bare_marker(folded) and not (is_dashed_line and _between_dashes(bare)[1]):
        return False
    return any(phrase in folded for phrase in quote_words.REPLY_ABOVE)


_HASH_OPENINGS, _HASH_ENDINGS = ("##-", "##=", "##~"), ("-##", "=##", "~##")
#: The ASCII words that such a phrase ends with; a line without dashes must end so, too.
_ABOVE_WHAT = frozenset(phrase.split()[-1] for phrase in quote_words.REPLY_ABOVE if phrase.isascii())
_LAST_WORDS = quote_words.VERBS | _ABOVE_WHAT


def _is_bare_marker(folded: str) -> bool:
    """The same words without dashes around: only as a short line that speaks of an answer."""
    return len(folded) < MAX_BARE_MARKER and _REPLY.search(folded) is not None


_REPLY = re.compile(
    "reply above|reply via email|your reply|antwort|répondre|responda|responder|rispondi|ответ|"
    "beantwoord|odpowied|odpověd|回复|返信|yanıt"
)


def is_signature_delimiter(line: str) -> bool:
    return len(line) < 8 and _DELIMITER.match(line) is not None


def is_mobile_signature(line: str) -> bool:
    """ "Sent from my iPhone", "Get Outlook for iOS", "Von meinem Samsung Gerät gesendet" and relatives."""
    if len(line) >= MAX_LINE or len(line) < 5 or not _may_be_mobile(line):
        return False
    text = " ".join(_LINK.sub(" ", line).split()).strip(_EDGES).casefold()
    if not 4 < len(text) <= MAX_MOBILE or "?" in text:
        return False
    words = [word.strip(_PUNCTUATION) for word in text.split()]
    if not words or len(words) > 14:
        return False
    has_part = not text.isascii() and len(text) < 50 and any(part in text for part in quote_words.SENT_PARTS)
    is_sent_first, is_sent_last = words[0] in quote_words.SENT_WORDS, words[-1] in quote_words.SENT_WORDS
    if not (has_part or is_sent_first or is_sent_last):
        return False
    is_fetched = is_sent_first and words[0] in quote_words.FETCH_WORDS and not has_part
    if is_fetched and quote_words.FETCH_FOR.isdisjoint(words[1:5]) and _LINK.search(line) is None:
        return False
    # "Sent from my desk, is much easier than my mobile phone": the thing is named at once or not at all
    if not any(device in text.partition(",")[0] for device in quote_words.DEVICES):
        return False
    if has_part:
        return True
    if any(word in ("i", "ich", "je", "we") for word in words):
        return False
    if is_sent_first and words[-1] not in _PROSE_ENDS:
        return len(words) <= 8 or any(sign in text for sign in (",", "sent from", "from my", "gesendet"))
    return len(words) <= 9 and is_sent_last and re.split("['’]", words[0])[0] in _BACKWARD_STARTS


def _may_be_mobile(line: str) -> bool:
    """Whether the line begins or ends with "sent" (or has a link in the way of seeing that); else it is prose."""
    if "<" in line or "http" in line:
        return True
    bare = line.strip(_EDGES)
    if not bare or len(bare) > 2 * MAX_MOBILE:
        return False
    if bare.split(None, 1)[0].strip(_PUNCTUATION).casefold() in quote_words.SENT_WORDS:
        return True
    if bare.rsplit(None, 1)[-1].strip(_PUNCTUATION).casefold() in quote_words.SENT_WORDS:
        return True
    return len(bare) <= MAX_MOBILE and not line.isascii() and _SENT_PART_BEGINS.search(line) is not None


_PUNCTUATION = ".,;:!\"'()"
_EDGES = " *_-–—.·|[]()<>" + "".join(filter(str.isspace, map(chr, range(0x3001))))
_SENT_PART_BEGINS = re.compile(f"[{''.join(part[0] for part in quote_words.SENT_PARTS)}]")


def is_list_footer(lines: Sequence[str]) -> bool:
    """Whether a rule and a few lines under it are what a mailing list adds: its name, its address, a link."""
    if not lines or len(lines) > 10 or not is_rule(lines[0]):
        return False
    below = " ".join(lines[1:]).casefold()
    return "mailing list" in below or ("http" in below and ("unsubscribe" in below or "listinfo" in below))


_PROSE_ENDS = frozenset(
    {"yesterday", "today", "again", "it", "them", "me", "you", "gestern", "heute", "hier", "now", "before"}
)
#: Languages that put the verb last: "Von meinem iPhone gesendet", "iPhone'umdan gönderildi".
_BACKWARD_STARTS = quote_words.words("""
von diese dieser meinem mit iphone ipad samsung galaxy android outlook mail yahoo gmail bu dan van vanaf huawei
xiaomi windows ios cep telefonumdan az ipademről iphone-omról iphoneomról androidos mano από
""")
