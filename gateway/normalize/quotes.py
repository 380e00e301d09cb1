"""Telling a mail body apart: the words written now, the words quoted from before, the signature (R2.3).

Each line gets one label (``quote_labels``); the three texts are the lines of each label in their order. So nothing
can be lost or invented, whatever the rules think. The HTML side (``quotes_html``) labels the lines it finds in the
document by the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from gateway.normalize import charset
from gateway.normalize.quote_labels import NEW, QUOTED, SIGNATURE, label_lines
from gateway.normalize.quote_lines import unglue
from gateway.normalize.quotes_html import HtmlSplit, split_html
from gateway.normalize.values import Reply

MAX_TRIES: Final = 2000  #: lines looked at for glue; more is no letter
#: With what a line ends that may be the end of an attribution.
_GLUE_ENDS = frozenset(":： -")

__all__ = ["HtmlSplit", "split_html", "split_text"]


def split_text(text: str, parent: str | None = None) -> Reply:
    """Tell a plain-text body apart.

    ``text`` is decoded, format=flowed undone; any line ending. ``parent`` is the text of the message it answers
    if that one is ours: lines that stand in it are quoted even without a mark. Raises nothing.
    """
    lines = _without_glue(charset.with_line_feeds(text).split("\n"))
    texts = _gather(lines, label_lines(lines, parent=parent))
    return Reply(text=texts[NEW], quoted=texts[QUOTED], signature=texts[SIGNATURE])


def _without_glue(lines: list[str]) -> list[str]:
    """Break lines in which new words and what introduces a quote stand together."""
    broken: dict[int, Sequence[str]] = {}
    tries = 0
    for at, line in enumerate(lines):
        if line[-1:] in _GLUE_ENDS or "-----" in line:
            tries += 1
            if tries > MAX_TRIES:
                break
            for start, end in ((at, at + 1), (at - 1, at + 1)):
                pieces = unglue(lines[start], rest="".join(lines[start + 1 : end])) if start >= 0 else ()
                if len(pieces) > 1:
                    broken[start] = pieces
                    break
    if not broken:
        return lines
    return [piece for at, line in enumerate(lines) for piece in broken.get(at, (line,))]


def _gather(lines: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Join the lines of each label; runs that something else stood between get a blank line between them."""
    runs: dict[str, list[str]] = {NEW: [], QUOTED: [], SIGNATURE: []}
    begin = 0
    for label, group in groupby(labels):
        end = begin + sum(1 for _ in group)
        text = "\n".join(map(str.rstrip, lines[begin:end])).strip("\n")
        if text and not text.isspace():
            runs[label].append(text)
        begin = end
    return {label: "\n\n".join(texts) for label, texts in runs.items()}
