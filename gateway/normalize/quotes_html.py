"""Telling an HTML body apart by what mail clients leave in the document, and by the line rules for the rest (R2.3).

The document is read once into lines, each with a mark (inside Gmail's quote, inside a cited block, signature …).
``quote_labels`` labels the lines, and the tree is written out three times over, each time with the leaves of one
label and the elements around them. So every word comes out exactly once, and answers between quotes stay in order.
A plain ``<blockquote>`` that no attribution introduces is the writer's own; so is Gmail's outside its container,
for its button "quote" makes that one.
"""

from __future__ import annotations

import html as html_module
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from gateway.normalize.quote_labels import NEW, QUOTED, SIGNATURE, label_lines
from gateway.normalize.quote_words import words

_SOFT, _TO_END = ">", "end"

#: Elements that hold nothing but what was quoted.
_QUOTES: Final = (
    "blockquote[type=cite], blockquote.protonmail_quote, blockquote.cite, .gmail_quote blockquote.gmail_quote,"
    ".gmail_quote_container blockquote.gmail_quote, .gmail_extra blockquote.gmail_quote,"
    ".gmail_attr ~ blockquote.gmail_quote,"
    "blockquote.tutanota_quote, blockquote#isReplyContent, blockquote#isForwardContent, div#isForwardContent,"
    ".moz-cite-prefix, .moz-forward-container, .moz-email-headers-table, .gmail_attr, .yahoo_quoted,"
    'div[id^="yahoo_quoted"], .protonmail_quote, [data-marker="__QUOTED_TEXT__"], [data-marker="__HEADERS__"],'
    "#OLK_SRC_BODY_SECTION, #mail-editor-reference-message-container, .zmail_extra, .front-blockquote,"
    '#reply-intro, div[name="quote"], [name="messageBodySection"] ~ [name="messageReplySection"],'
    "#_originalContent, #_replyHeader"
)
#: Elements from which on everything is quoted.
_CUTS: Final = (
    "#appendonsend, #divRplyFwdMsg, .ms-outlook-mobile-reference-message, #zwchr, hr#stopSpelling,"
    '[data-marker="__DIVIDER__"], .OutlookMessageHeader'
)
_SIGNATURES: Final = (
    '.gmail_signature, .gmail_signature_prefix, [data-smartmail="gmail_signature"], .moz-signature, #Signature,'
    '#signature, [id^="ms-outlook-mobile-signature"], .protonmail_signature_block, [id^="AppleMailSignature"],'
    '#composer_signature, [class*="yahoo-signature"], [data-marker="__SIG_PRE__"], [data-marker="__SIG_POST__"],'
    'div[name="messageSignatureSection"], .ms-outlook-mobile-signature'
)
_LINE_TAGS = words("""
address article aside center dd details div dl dt fieldset figcaption figure footer form header li main nav
option section summary tr body
""")
_PARAGRAPH_TAGS = words("""
blockquote h1 h2 h3 h4 h5 h6 hr ol p pre table ul
""")
_VOID_TAGS = words("""
area base br col embed hr img input link meta param source track wbr
""")
_OPAQUE_TAGS = words("""
script style template title textarea noscript iframe svg math object video audio
""")
#: Without any of these no element carries a mark.
_TRACES: Final = ("<blockquote", "class=", "id=", "name=", "data-", "border-top")
_RULE_LINE = "_" * 32
_QUOTED_LINE = "> ..."


@dataclass(frozen=True, slots=True)
class HtmlSplit:
    """An HTML body told apart. Without a find ``is_split`` is False and everything is new."""

    new_html: str
    quoted_html: str = ""
    signature_html: str = ""
    new_text: str = ""
    quoted_text: str = ""
    signature_text: str = ""
    is_split: bool = False


@dataclass(slots=True)
class _Element:
    """One node in document order; ``end`` is the index after its last descendant."""

    node: LexborNode
    tag: str
    first_leaf: int
    end: int = 0
    last_leaf: int = 0
    pieces: tuple[str, ...] = ()  #: of a text node: one for each line it takes part in


@dataclass(slots=True)
class _Document:
    elements: list[_Element] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)  #: for each leaf the number of its line
    lines: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)


def split_html(html: str, to_text: Callable[[str], str] | None = None, parent: str | None = None) -> HtmlSplit:
    """Tell an HTML body apart. ``html`` is sanitised and not too deep but keeps class, id, style and ``type``.

    ``to_text`` turns the parts into text (``gateway.normalize.html.to_text`` unless given). ``parent`` as in
    ``quotes.split_text``. Raises nothing.
    """
    if to_text is None:
        from gateway.normalize import html as html_text  # that module calls this one

        to_text = html_text.to_text
    body = LexborHTMLParser(html).body
    lowered = html.lower()
    is_marked = any(trace in lowered for trace in _TRACES)
    document = _Document() if body is None else _read(body, _find_marks(body) if is_marked else {})
    labels = label_lines(document.lines, marks=document.marks, parent=parent)
    if all(label == NEW for label in labels):
        return HtmlSplit(new_html=html, new_text=to_text(html))
    parts = _write(document, labels)
    return HtmlSplit(
        new_html=parts[NEW],
        quoted_html=parts[QUOTED],
        signature_html=parts[SIGNATURE],
        new_text=to_text(parts[NEW]) if parts[NEW] else "",
        quoted_text=to_text(parts[QUOTED]) if parts[QUOTED] else "",
        signature_text=to_text(parts[SIGNATURE]) if parts[SIGNATURE] else "",
        is_split=True,
    )


def _find_marks(body: LexborNode) -> dict[int, str]:
    """Return the mark of each element that a mail client has marked, by node identity."""
    found: dict[int, str] = {node.mem_id: _SOFT for node in body.css("blockquote")}
    found |= {node.mem_id: SIGNATURE for node in body.css(_SIGNATURES)}
    found |= {node.mem_id: QUOTED for node in body.css(_QUOTES)}
    found |= {node.mem_id: _TO_END for node in body.css(_CUTS)}
    for node in body.css(".gmail_quote, .gmail_quote_container"):
        if node.tag != "blockquote":
            _mark_gmail(node, found)
    for node in body.css(_CUTS):
        holder = node.parent
        while holder is not None and holder.mem_id != body.mem_id:
            if holder.tag == "blockquote":
                found[holder.mem_id] = QUOTED  # a plain one, but a client put its header into it
            holder = holder.parent
    for node in body.css('div[style*="border-top" i]'):
        if _is_word_header(node):
            found[node.mem_id] = _TO_END
    return found


def _mark_gmail(container: LexborNode, found: dict[int, str]) -> None:
    """Gmail's container holds attribution and quotes; what stands between its quotes is an inline answer."""
    children = list(container.iter(include_text=True))
    quotes = [at for at, child in enumerate(children) if child.tag == "blockquote"]
    is_forward = (container.text(deep=True) or "")[:200].lstrip().startswith(("--", "‐‐"))
    if not quotes or is_forward:
        found[container.mem_id] = QUOTED
        return
    for child in children[: quotes[0]]:
        found[child.mem_id] = QUOTED


def _is_word_header(node: LexborNode) -> bool:
    """Outlook's desktop editor: a rule above three or more bold labels, in whatever language."""
    style = (node.attributes.get("style") or "").lower().replace(" ", "")
    if not any(rule in style for rule in ("border-top:solid", "border-top:1", "border-top-style:solid")):
        return False
    text = (node.text(deep=True) or "")[:2000]
    bold = [b for b in node.css("b, strong") if (b.text(deep=True) or "").rstrip(" \xa0\t\n").endswith((":", "："))]
    return len(bold) >= 3 and text.count(":") + text.count("：") >= 3


def _read(body: LexborNode, found: dict[int, str]) -> _Document:
    """Walk the tree once, without recursion, and break its text into lines."""
    document = _Document()
    elements, leaves = document.elements, document.leaves
    pieces: list[str] = []
    line_marks: list[str] = []
    is_rest_quoted = False

    def flush(*, is_break: bool = False) -> None:
        text = " ".join("".join(pieces).split())
        if text or is_break:
            filled = [mark for mark in line_marks if mark]
            document.lines.append(text)
            document.marks.append(filled[0] if filled and len(filled) == len(line_marks) else "")
            pieces.clear()
            line_marks.clear()

    def separate() -> None:
        flush()
        if document.lines and document.lines[-1]:
            document.lines.append("")
            document.marks.append("")

    # (index of the element, its next child to visit, its mark, whether white space is kept)
    stack: list[tuple[int, LexborNode | None, str, bool]] = []
    elements.append(_Element(node=body, tag="body", first_leaf=0))
    stack.append((0, body.child, "", False))
    while stack:
        index, node, mark, is_pre = stack.pop()
        if node is None:
            element = elements[index]
            element.end, element.last_leaf = len(elements), len(leaves)
            if element.tag in _PARAGRAPH_TAGS:
                separate()
            elif element.tag in _LINE_TAGS:
                flush()
            elif element.tag in ("td", "th"):
                pieces.append(" ")
            continue
        stack.append((index, node.next, mark, is_pre))
        tag = node.tag or ""
        own = found.get(node.mem_id, "")
        if own == _TO_END:
            is_rest_quoted = is_rest_quoted or not mark
            own = ""
        effective = own if own == QUOTED or not mark else mark
        if is_rest_quoted and not mark:
            effective = QUOTED
        child = _Element(node=node, tag=tag, first_leaf=len(leaves))
        elements.append(child)
        if effective == QUOTED and (tag != "-text" or (node.text_content or "").strip()):
            # Nothing inside can become anything else, so it is one leaf; its words are not read.
            separate()
            pieces.append(_QUOTED_LINE)
            line_marks.append(QUOTED)
            leaves.append(len(document.lines))
            flush()
        elif tag == "-text":
            text = node.text_content or ""
            child.pieces = tuple(text.splitlines(keepends=True)) if is_pre and "\n" in text else (text,)
            for piece in child.pieces:
                leaves.append(len(document.lines))
                pieces.append(piece)
                if piece.strip():
                    line_marks.append(effective)
                if is_pre and piece.endswith("\n"):
                    flush(is_break=True)
        elif tag in _VOID_TAGS or tag in _OPAQUE_TAGS or tag.startswith(("-", "!")):
            if tag == "hr":
                separate()
                pieces.append(_RULE_LINE)
                line_marks.append(effective)
            leaves.append(len(document.lines))
            if tag == "br" or tag == "hr":
                flush(is_break=True)
        else:
            if tag in _PARAGRAPH_TAGS:
                separate()
            elif tag in _LINE_TAGS:
                flush()
            stack.append((len(elements) - 1, node.child, effective, is_pre or _keeps_lines(node, tag)))
            continue
        child.end, child.last_leaf = len(elements), len(leaves)
    flush(is_break=True)
    return document


def _keeps_lines(node: LexborNode, tag: str) -> bool:
    if tag == "pre":
        return True
    style = node.attributes.get("style")
    return style is not None and "white-space" in style and "pre" in style


def _write(document: _Document, labels: list[str]) -> dict[str, str]:
    """Write the tree once for each label. An element of one label only is written by the library, whole."""
    elements = document.elements
    of_leaf = [labels[min(line, len(labels) - 1)] for line in document.leaves]
    changes = [0]
    for before, after in pairwise(of_leaf):
        changes.append(changes[-1] + (before != after))
    out: dict[str, list[str]] = {NEW: [], QUOTED: [], SIGNATURE: []}
    open_tags: list[tuple[int, str, set[str]]] = []
    at = 1  # 0 is the body itself
    while at < len(elements):
        while open_tags and open_tags[-1][0] <= at:
            _, tag, holders = open_tags.pop()
            for label in holders:
                out[label].append(f"</{tag}>")
        element = elements[at]
        first, last = element.first_leaf, element.last_leaf
        if first >= last:  # an element without leaves goes where its neighbour goes
            holder = of_leaf[min(first, len(of_leaf) - 1)] if of_leaf else NEW
            out[holder].append(element.node.html or "")
            at = element.end
        elif changes[first] == changes[last - 1]:
            out[of_leaf[first]].append(_whole(element))
            at = element.end
        elif element.pieces:
            for leaf, piece in enumerate(element.pieces, start=first):
                out[of_leaf[leaf]].append(_escape(piece))
            at += 1
        else:
            holders = set(of_leaf[first:last])
            start = _start_tag(element)
            for label in holders:
                out[label].append(start)
            open_tags.append((element.end, element.tag, holders))
            at += 1
    while open_tags:
        _, tag, holders = open_tags.pop()
        for label in holders:
            out[label].append(f"</{tag}>")
    return {label: "".join(pieces) for label, pieces in out.items()}


def _whole(element: _Element) -> str:
    return _escape("".join(element.pieces)) if element.pieces else element.node.html or ""


def _escape(text: str) -> str:
    return html_module.escape(text, quote=False).replace("\xa0", "&nbsp;")


def _start_tag(element: _Element) -> str:
    attributes = "".join(
        f" {name}" if value is None else f' {name}="{html_module.escape(value)}"'
        for name, value in element.node.attributes.items()
    )
    return f"<{element.tag}{attributes}>"
