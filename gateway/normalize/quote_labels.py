"""One label for each line of a body: written now, quoted from before, signature. ``quotes`` puts them together.

Works on lines alone, so that plain text and HTML (whose lines carry marks from the document) share the rules. An
attribution or a header block that no ``>`` follows quotes everything below it; one that ``>`` follows quotes the
marked lines only, and what stands between them is an answer written now. Time is linear in the text (T-D12).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from gateway.normalize import quote_lines as ql

NEW, QUOTED, SIGNATURE = "n", "q", "s"
MAX_SIGNATURE_LINES: Final = 24
#: What a run of lines must have in common with our own message to count as quoted from it.
MIN_COMMON_CHARS: Final = 30
MIN_COMMON_WORDS: Final = 5
SHINGLE: Final = 4
MAX_TRIES: Final = 10_000  #: lines that could introduce a quote; below so many the text stays as it is
WRAP_COLUMN, MAX_WRAPPED = 72, 80  #: where mail programs break lines, and what none of theirs is longer than

_PREFIX = re.compile(r"^[ \t\xa0]{0,3}(?:>|＞|&gt;)")
_ALL_PREFIXES = re.compile(r"^(?:[ \t\xa0]{0,3}(?:>|＞|&gt;))+ ?")
_COMMAND = re.compile(
    r"^(?:[$#%]|>>|\.\.\.$|(?:sudo|npm|npx|pip3?|git|cd|ls|dir|ping|ipconfig|curl|wget|docker|python3?|node|php|ruby|"
    r"apt|apt-get|yum|brew|mvn|make|ssh|telnet|nslookup|tracert|traceroute|echo|cat|def|class|import|const|let|var|"
    r"function|return|print|select|insert|update|systemctl|kubectl)\b(?! (?:me|you|it|us|the|a|this|that)\b))",
    re.IGNORECASE,
)
_CODE = re.compile(r"[{};]\s*$|=>|&&|\|\||(?:^|\s)--?\w|^<[/!?a-zA-Z]|^\w{1,40}\(|==|:=|^[A-Z]:\\|^/\w+/")
_WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")


def label_lines(lines: Sequence[str], *, parent: str | None = None, marks: Sequence[str] | None = None) -> list[str]:
    """Return one label for each line; a blank line takes the label of what stands before it.

    ``marks`` (HTML) says what the document itself says of a line: ``QUOTED``, ``SIGNATURE``, ``">"`` inside a
    block quote that anybody may have written, or ``""``.
    """
    seen = ql.plain(lines)
    blank = [not line or line.isspace() for line in seen]
    marked = [bool(line) and _PREFIX.match(line) is not None for line in seen]
    if marks:
        marked = [is_marked or mark in (">", QUOTED) for is_marked, mark in zip(marked, marks, strict=True)]
    if True in marked:
        _mend_marks(seen, blank, marked)
    known = ql.Lines(text=seen, blank=blank, marked=marked, following=_next_filled(blank))
    labels = [NEW] * len(lines)
    _label_cuts(known, labels)
    if True in marked:
        _label_runs(known, labels, parent)
    for at, mark in enumerate(marks or ()):
        if mark == QUOTED and labels[at] == NEW:
            labels[at] = QUOTED
            rule = _with_rule_above(known, at, 0)
            labels[rule:at] = [QUOTED] * (at - rule)
    if parent:
        _label_common(lines, blank, labels, parent)
    _label_signatures(seen, blank, labels)
    for at, mark in enumerate(marks or ()):
        if mark == SIGNATURE and labels[at] == NEW:
            labels[at] = SIGNATURE
    for at in range(1, len(lines)):
        if blank[at]:
            labels[at] = labels[at - 1]
    return labels


def _mend_marks(seen: Sequence[str], blank: Sequence[bool], marked: list[bool]) -> None:
    """Undo what wrapping did to the marks: an address cut before its ``>``, a link cut inside a quote."""
    for at in range(1, len(seen) - 1):
        above = seen[at - 1]
        if marked[at]:
            is_cut = not marked[at - 1] and len(seen[at]) < 40 and seen[at].startswith(">") and seen[at][-1:] in ":："
            if is_cut and (_is_open(above, "<", ">") or (at > 1 and _is_open(seen[at - 2], "<", ">") and "@" in above)):
                marked[at] = False
        elif marked[at - 1] and marked[at + 1] and not blank[at]:
            is_link = "://" in above and (_is_open(above, "(", ")") or _is_open(above[2:], "<", ">"))
            if is_link and (")" in seen[at] or ">" in seen[at]):
                marked[at] = True
            elif seen[at][:1].islower() and above[-1:] not in ".?!:;)" and _is_full(above, seen[at]):
                marked[at] = True  # Gmail for Android marks a line first and wraps it afterwards


def _is_full(above: str, line: str) -> bool:
    """Whether the first word of the line had no room at the end of the one above."""
    return len(above) <= MAX_WRAPPED and len(above) + 1 + len(line.split(None, 1)[0]) > WRAP_COLUMN


def _is_open(line: str, opening: str, closing: str) -> bool:
    return line.rfind(opening) > line.rfind(closing)


def _next_filled(blank: Sequence[bool]) -> list[int]:
    """For each line the next one with words after it (or the number of lines)."""
    following = [0] * len(blank)
    upcoming = len(blank)
    for at in range(len(blank) - 1, -1, -1):
        following[at] = upcoming
        if not blank[at]:
            upcoming = at
    return following


def _label_cuts(lines: ql.Lines, labels: list[str]) -> None:
    """Find what introduces a quote; label it and what it introduces. Stops at the first cut to the end."""
    blank, marked = lines.blank, lines.marked
    total, free, at, tries = len(lines), 0, 0, 0
    while at < total and tries < MAX_TRIES:
        if blank[at] or (marked[at] and not ql.is_reply_marker(lines.text[at])):
            at += 1
            continue
        is_candidate = ql.may_introduce(lines.text[at]) or lines.is_quote_next(at)
        found = _find_cut(lines, at, free) if is_candidate else None
        tries += is_candidate
        if found is None:
            at += 1
            continue
        begin, body = found
        begin = _with_rule_above(lines, begin, free)
        while body < total and blank[body]:
            body += 1
        labels[begin:body] = [QUOTED] * (body - begin)
        if body < total and (marked[body] or _adopt_odd_prefix(lines, body)):
            while body < total and (marked[body] or blank[body]):
                labels[body] = QUOTED
                body += 1
            at = free = body
            continue
        labels[begin:] = [QUOTED] * (total - begin)
        return


def _find_cut(lines: ql.Lines, at: int, free: int) -> tuple[int, int] | None:
    """Return where what introduces a quote begins and where its body begins, if it ends or starts at ``at``."""
    line, after = lines.text[at], lines.following[at]
    is_label_next = after < len(lines) and not lines.marked[after] and lines.label(after) is not None
    if ql.is_separator(line):
        if is_label_next:
            return at, ql.header_block_end(lines, after, is_announced=True) or after
        return at, _skip_attribution(lines, after)
    if ql.is_reply_marker(line):
        return _attribution_above(lines, at, free), at + 1
    if is_label_next and after - at <= 3 and (ql.is_rule(line) or ql.is_dashed(line)):
        end = ql.header_block_end(lines, after, is_announced=True)
        if end is not None:
            return at, end
    if lines.label(at):
        end = ql.header_block_end(lines, at, is_announced=False)
        if end is not None:
            return at, end
    is_quote_next = lines.is_quote_next(at)
    if ql.may_end_attribution(line, is_quote_next=is_quote_next):
        begin = ql.find_attribution(lines, at, first=free, is_quote_next=is_quote_next)
        if begin is not None:
            return begin, at + (2 if _ends_below(lines, at) else 1)
    return None


def _ends_below(lines: ql.Lines, at: int) -> bool:
    """Whether the last ">:" or "wrote:" of an attribution that is plain without it was wrapped onto the next line."""
    if ql.ends_with_colon(lines.text[at]) or at + 1 >= len(lines) or lines.marked[at + 1]:
        return False
    rest = lines.text[at + 1]
    return len(rest) < 60 and ql.ends_with_colon(rest)


def _skip_attribution(lines: ql.Lines, after: int) -> int:
    """Proton Mail writes both "Original Message" and an attribution: the body begins after the latter."""
    for end in range(after, min(after + 3, len(lines))):
        if lines.marked[end] or lines.blank[end]:
            break
        is_found = ql.find_attribution(lines, end, first=after, is_quote_next=lines.is_quote_next(end)) is not None
        if is_found or (ql.ends_with_colon(lines.text[end]) and lines.signs(end)):
            return end + 1
    return after


def _attribution_above(lines: ql.Lines, marker: int, free: int) -> int:
    """Step back over an attribution in a language we do not know: an address or a date, ending in a colon."""
    at = marker - 1
    while at >= free and marker - at <= 4 and lines.blank[at]:
        at -= 1
    if at < free or not ql.ends_with_colon(lines.text[at]) or not lines.signs(at):
        return marker
    begin = at
    while begin > free and at - begin < 2 and not lines.blank[begin - 1] and lines.signs(begin - 1):
        begin -= 1
    return begin


def _with_rule_above(lines: ql.Lines, begin: int, free: int) -> int:
    at = begin - 1
    while at >= free and begin - at <= 3 and lines.blank[at]:
        at -= 1
    if at < free:
        return begin
    line = lines.text[at]
    if ql.is_rule(line) or ql.is_separator(line):
        return at
    is_block = not lines.marked[begin] and lines.label(begin) is not None
    if not is_block and ql.is_reply_marker(lines.text[begin]) and ql.is_short_rule(line):
        return at
    return at if is_block and (ql.is_short_rule(line) or ql.is_bare_separator(line)) else begin


def _adopt_odd_prefix(lines: ql.Lines, start: int) -> bool:
    """After an attribution "| …" and "JD> …" are quote marks too; from here on they count as such."""
    if not ql.is_odd_prefix(lines.text[start]):
        return False
    for at in range(start, len(lines)):
        if not lines.blank[at] and not lines.marked[at]:
            lines.marked[at] = ql.is_odd_prefix(lines.text[at])
    return True


def _label_runs(lines: ql.Lines, labels: list[str], parent: str | None) -> None:
    """Label the runs of ``>`` lines that nothing introduces: quotes, unless they look like a prompt or code."""
    seen, blank, marked = lines.text, lines.blank, lines.marked
    first_quote = labels.index(QUOTED) if QUOTED in labels else len(labels)
    ours = frozenset(_shingles(_WORD.findall(parent.casefold()))) if parent else frozenset()
    total, at = len(seen), 0
    while at < total:
        if not marked[at] or labels[at] == QUOTED:
            at += 1
            continue
        start = at
        while at < total and (marked[at] or blank[at]):
            at += 1
        run = [i for i in range(start, at) if marked[i]]
        if (
            first_quote < start
            or _is_quote_run([_ALL_PREFIXES.sub("", seen[i]) for i in run], [seen[i] for i in run], ours)
            or _introduces_itself(lines, next((i for i in run if not blank[i]), start))
        ):
            for i in range(start, run[-1] + 1):
                labels[i] = QUOTED


def _introduces_itself(lines: ql.Lines, start: int) -> bool:
    """Whether a block quote of HTML begins with an attribution, a separator or a header block inside it."""
    if ql.is_separator(lines.text[start]):
        return True
    for at in range(start, min(start + 3, len(lines))):
        if lines.blank[at] or not lines.marked[at]:
            break
        is_end = ql.may_end_attribution(lines.text[at], is_quote_next=False)
        if is_end and (begin := ql.find_attribution(lines, at, first=start, is_quote_next=False)) is not None:
            return begin == start
    return lines.label(start) is not None and ql.header_block_end(lines, start, is_announced=False) is not None


def _is_quote_run(contents: Sequence[str], raw: Sequence[str], ours: frozenset[tuple[str, ...]]) -> bool:
    if not any(_PREFIX.match(line) for line in raw):
        return False  # an HTML block quote without an attribution: the writer's own
    filled = [line for line in contents if line.strip()]
    if not filled:
        return True
    if ours and any(s in ours for line in filled for s in _shingles(_WORD.findall(line.casefold()))):
        return True
    if all(line.startswith((">>> ", ">>>")) for line in raw if line.strip()) and len(contents) == len(filled):
        return False  # a Python prompt
    code = sum(1 for line in filled if _COMMAND.match(line) or _CODE.search(line[:200]))
    if 2 * code > len(filled) or (code and len(filled) == 1):
        return False
    if len(filled) > 1:
        return True
    only = filled[0]
    return not only[0].isdigit() and (len(_WORD.findall(only)) >= 3 or only.rstrip()[-1:] in "?.!:,")


def _shingles(words: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)]


def _label_common(lines: Sequence[str], blank: Sequence[bool], labels: list[str], parent: str) -> None:
    """Label runs of lines that stand in our own message, re-wrapped or not."""
    ours = frozenset(_shingles(_WORD.findall(parent.casefold())))
    parent_lines = [_squeeze(line) for line in parent.splitlines()]
    whole = {line for line in parent_lines if line}
    filled = [i for i in range(len(lines)) if not blank[i] and labels[i] == NEW]
    squeezed = {i: _squeeze(_ALL_PREFIXES.sub("", lines[i])) for i in filled}
    words = {i: _WORD.findall(squeezed[i]) for i in filled}
    neighbours = _adjacent_pairs(parent_lines)
    run: list[int] = []
    previous: int | None = None
    for i in [*filled, None]:
        if i is not None:
            is_joined = previous is None or all(blank[k] or labels[k] != NEW for k in range(previous + 1, i))
            is_common = squeezed[i] in whole or (
                len(words[i]) >= SHINGLE and all(shingle in ours for shingle in _shingles(words[i]))
            )
            if is_common and is_joined:
                run.append(i)
                previous = i
                continue
        _accept_run(run, squeezed, words, neighbours, labels)
        run = [i] if i is not None and (squeezed[i] in whole) else []
        previous = i


def _adjacent_pairs(parent_lines: Sequence[str]) -> set[tuple[str, str]]:
    filled = [line for line in parent_lines if line]
    return set(pairwise(filled))


def _accept_run(
    run: list[int],
    squeezed: dict[int, str],
    words: dict[int, list[str]],
    neighbours: set[tuple[str, str]],
    labels: list[str],
) -> None:
    """Label a run unless it is too little; a short "Thanks" at its edge needs its neighbour of our message."""
    first, last = 0, len(run) - 1
    while first < last and _is_loose(run[first], run[first], run[first + 1], squeezed, words, neighbours):
        first += 1
    while first < last and _is_loose(run[last], run[last - 1], run[last], squeezed, words, neighbours):
        last -= 1
    run = run[first : last + 1]
    if sum(len(words[i]) for i in run) >= MIN_COMMON_WORDS and sum(len(squeezed[i]) for i in run) >= MIN_COMMON_CHARS:
        for i in run:
            labels[i] = QUOTED


def _is_loose(
    edge: int,
    before: int,
    after: int,
    squeezed: dict[int, str],
    words: dict[int, list[str]],
    neighbours: set[tuple[str, str]],
) -> bool:
    """Whether a short line at the edge of a run stands beside another line than in our message."""
    return len(words[edge]) < SHINGLE and (squeezed[before], squeezed[after]) not in neighbours


def _squeeze(line: str) -> str:
    return " ".join(line.casefold().split())


def _label_signatures(seen: Sequence[str], blank: Sequence[bool], labels: list[str]) -> None:
    """Label the signatures at the ends of the runs written now, and phone lines that stand alone."""
    total, at = len(seen), 0
    while at < total:
        if labels[at] != NEW:
            at += 1
            continue
        end = at
        while end < total and (labels[end] == NEW or blank[end]):
            end += 1
        _label_run_signature(seen, blank, labels, at, end)
        at = end


def _label_run_signature(seen: Sequence[str], blank: Sequence[bool], labels: list[str], start: int, end: int) -> None:
    cut, count = end, 0
    for at in range(end - 1, start - 1, -1):
        if blank[at]:
            continue
        if ql.is_signature_delimiter(seen[at]):
            if count <= MAX_SIGNATURE_LINES and (count or seen[at].startswith("--")):
                cut = at
            break
        count += 1
        if count > MAX_SIGNATURE_LINES:
            break
        if ql.is_rule(seen[at]) and ql.is_list_footer([line for line in seen[at:end] if line.strip()]):
            cut, count = at, 0
    tail = True
    for at in range(cut - 1, start - 1, -1):
        if blank[at]:
            continue
        is_alone = (at == start or blank[at - 1]) and (at + 1 >= end or blank[at + 1] or at + 1 >= cut)
        if (tail or is_alone) and ql.is_mobile_signature(seen[at]):
            labels[at] = SIGNATURE
        else:
            tail = False
    for at in range(cut, end):
        labels[at] = SIGNATURE
