"""HTML of a mail: made safe to show, and turned into the text that a person would read.

The first of the three walls of T-E01: an allow-list, applied once. Tree builders are quadratic in depth, so a
linear look comes before any of them; what looks like an attack becomes plain text and keeps all its words.
Marks that mail programs leave at quotes survive as a fixed list of class and id values, which is harmless to
show and lets the quote splitter work on the safe HTML.
"""

from __future__ import annotations

import html as entities
import re
from functools import partial
from typing import Final

import nh3
from resiliparse.extract.html2text import extract_plain_text

from gateway.normalize import charset

MAX_HTML_CHARS: Final = 2 * 1024 * 1024
MAX_OPEN_TAGS: Final = 256
MAX_UNCLOSED_ITEMS: Final = 4000
_FEW_TAGS: Final = 500  # below this no tree builder is slow, so the look is skipped


def _set(spoken: str) -> frozenset[str]:
    return frozenset(spoken.split())


_TAGS: Final = _set(
    "a abbr acronym address article aside b bdi bdo big blockquote br caption center cite code col colgroup "
    "dd del details dfn dir div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 header hr i img ins "
    "kbd li main mark nav ol p pre q rp rt ruby s samp section small span strike strong sub summary sup "
    "table tbody td tfoot th thead time tr tt u ul var wbr"
)
#: Elements that go with all that is in them; of every other unknown element the words stay.
_DROPPED_WITH_CONTENT: Final = frozenset({"script", "style", "title", "template", "noscript", "iframe", "object"})
_QUOTE_CLASSES: Final = _set(
    "gmail_quote gmail_quote_container gmail_attr gmail_extra gmail_signature gmail_signature_prefix "
    "gmail_default gmail_sendername moz-cite-prefix moz-forward-container moz-signature "
    "moz-email-headers-table yahoo_quoted yahoo-quoted-begin yahoo-signature protonmail_quote "
    "protonmail_signature_block protonmail_signature_block-user tutanota_quote tutanota_quote_reply "
    "OutlookMessageHeader AppleMailSignature Apple-interchange-newline zmail_extra "
    "zmail_extra_hr zmail_quote quoted_header quote-header mail-quote mail_quote quoted quote email_quote "
    "freebirdFormviewer hs_reply front-blockquote frontapp-quote front-signature "
    "ms-outlook-mobile-signature sh-quoted-content mailbird-quote spark-quote airmail_ext_on cite_quote "
    "rc_cite reply-intro icloud-quote x_gmail_quote x_gmail_attr x_moz-cite-prefix x_yahoo_quoted "
    "x_gmail_quote_container x_gmail_extra x_gmail_signature x_moz-signature "
    "x_protonmail_quote gmail-m_quote ydp_yahoo_quoted signature Signature ntes_mailmaster_quote "
    "qqmail_quote foxmail_quote mail_android_quote mail-ru-quote cite ms-outlook-mobile-reference-message "
    "edo-signature edo-quote"
)
_QUOTE_IDS: Final = _set(
    "divRplyFwdMsg x_divRplyFwdMsg appendonsend x_appendonsend stopSpelling "
    "mail-editor-reference-message-container OLK_SRC_BODY_SECTION Signature x_Signature AppleMailSignature "
    "ms-outlook-mobile-signature x_ms-outlook-mobile-signature ms-outlook-mobile-body-separator-line "
    "reply-intro zwchr lineBreakAtBeginningOfSignature lineBreakAtBeginningOfMessage isForwardContent "
    "isReplyContent _originalContent _replyHeader signature composer_signature spm-reply physicalreply "
    "mailContentContainer ntes-pcmac-signature replySplit quotedMessage signature_old_html ReplyMsg origbody "
    "oriMsgHtmlSeperator tmjah_g_1299 yahoo_quoted"
)
_QUOTE_TRACES: Final = (
    "<blockquote",
    "<hr",
    ' id="',
    ' class="',
    ' name="',
    " data-marker=",
    " data-smartmail=",
    "border-top",
)
_DATA_MARKERS: Final = frozenset({"__QUOTED_TEXT__", "__HEADERS__", "__SIG_PRE__", "__SIG_POST__", "__DIVIDER__"})
_STYLES: Final = _set(
    "color background-color font font-family font-size font-style font-weight font-variant text-align "
    "text-decoration text-indent text-transform line-height letter-spacing word-spacing white-space "
    "vertical-align direction unicode-bidi border border-top border-right border-bottom border-left "
    "border-top-style border-top-width border-top-color "
    "border-color border-style border-width border-collapse border-spacing border-radius margin margin-top "
    "margin-right margin-bottom margin-left padding padding-top padding-right padding-bottom padding-left "
    "width max-width min-width height max-height list-style-type table-layout word-break overflow-wrap"
)
_CELL: Final = {"align", "valign", "width", "height", "bgcolor", "colspan", "rowspan", "nowrap", "scope", "headers"}
_MARKED: Final = ("div", "span", "p", "blockquote", "table", "td", "tr", "hr", "a", "br", "section", "font", "pre")
_cleaner: Final = partial(
    nh3.Cleaner,
    tags=set(_TAGS),
    clean_content_tags=set(_DROPPED_WITH_CONTENT),
    attributes={
        "*": {"style", "dir", "lang", "title", "align"},
        "a": {"href"},
        "img": {"src", "alt", "width", "height", "border", "hspace", "vspace"},
        "table": {"border", "cellpadding", "cellspacing", "width", "height", "bgcolor", "summary", "rules", "frame"},
        "td": _CELL,
        "th": _CELL,
        "tr": {"valign", "bgcolor", "height"},
        "tbody": {"valign"},
        "thead": {"valign"},
        "col": {"span", "width", "valign"},
        "colgroup": {"span", "width", "valign"},
        "font": {"color", "face", "size"},
        "ol": {"start", "type", "reversed"},
        "ul": {"type"},
        "li": {"value", "type"},
        "hr": {"size", "width", "color", "noshade", "tabindex"},
        "time": {"datetime"},
        "blockquote": set(),
        "bdo": set(),
    },
    tag_attribute_values={
        tag: {
            "id": set(_QUOTE_IDS),
            "data-marker": set(_DATA_MARKERS),
            "data-smartmail": {"gmail_signature"},
            "name": {"quote", "messageBodySection", "messageReplySection", "messageSignatureSection"},
        }
        | ({"type": {"cite", "CITE"}} if tag == "blockquote" else {})
        for tag in _MARKED
    },
    set_tag_attribute_values={"a": {"target": "_blank"}},
    allowed_classes={tag: set(_QUOTE_CLASSES) for tag in _MARKED},
    filter_style_properties=set(_STYLES),
    link_rel="noopener noreferrer nofollow",
    url_schemes={"http", "https", "mailto", "tel", "cid"},
    url_relative="deny",
)
_CLEANER: Final = _cleaner()
_IMG: Final = re.compile(r'<img((?: [a-z-]+="[^"]*")*)>')
_REMOTE_SRC: Final = re.compile(r' src="(?!cid:)')
_CID_LINK: Final = re.compile(r' href="cid:[^"]*"', re.IGNORECASE)
_RISKY_STYLE: Final = re.compile(r' style="[^"]*(?:url|image|expression|var|attr)\s*\([^"]*"', re.IGNORECASE)
_ESCAPED_STYLE: Final = re.compile(r' style="[^"\\@]*[\\@][^"]*"')
_TAG_NAME: Final = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)")
_VOID: Final = _set("area base br col embed hr img input link meta param source track wbr frame")
#: Closed by their own next of kin, so that leaving them open does not nest.
_CLOSED_BY_NEXT: Final = _set("html head body p td th tr tbody thead tfoot option optgroup caption colgroup rp rt")
#: The same, but nesting when they alternate.
_ITEMS: Final = _set("li dd dt")
_BLOCKS: Final = _set(
    "p div br tr li ul ol table h1 h2 h3 h4 h5 h6 blockquote pre hr dd dt section article header footer"
)
_BLANKS: Final = re.compile(r"\n{3,}")


_BACKGROUND: Final = re.compile(r"background\s*:", re.IGNORECASE)
_COLOUR: Final = re.compile(r"#[0-9a-f]{3,8}\b|(?:rgb|hsl)a?\([0-9.,%\s/deg]{5,60}\)", re.IGNORECASE)
_NO_COLOURS: Final = _set(
    "none repeat no-repeat repeat-x repeat-y round space scroll fixed local center top bottom left right cover contain "
    "auto border-box padding-box content-box initial inherit unset"
)


def _name_background(_tag: str, attribute: str, value: str) -> str:
    """Keep the colour of ``background: …``, which may also load an image: without it white words stand on white."""
    if attribute != "style" or not _BACKGROUND.search(value):
        return value
    kept = []
    for declaration in value.split(";"):
        name, _, given = declaration.partition(":")
        if name.strip().lower() == "background":
            colour = _COLOUR.search(given)
            words = (word for word in given.split() if word.isalpha() and word.lower() not in _NO_COLOURS)
            declaration = f"background-color:{colour[0] if colour else next(words, '')}"
        kept.append(declaration)
    return ";".join(kept)


_PAINTER: Final = _cleaner(attribute_filter=_name_background)


def is_buildable(html: str) -> bool:
    """Return whether a tree builder takes this in reasonable time: size, open tags, formatting floods. Linear."""
    if len(html) > MAX_HTML_CHARS:
        return False
    if html.count("<") <= _FEW_TAGS:
        return True
    opened: dict[str, int] = {}
    open_tags = open_items = 0
    for slash, name in _TAG_NAME.findall(html):
        name = name.lower()
        if name in _VOID or name in _CLOSED_BY_NEXT:
            continue
        if slash:
            if opened.get(name, 0) <= 0:
                continue
            step = -1
        else:
            step = 1
        opened[name] = opened.get(name, 0) + step
        if name in _ITEMS:
            open_items += step
        else:
            open_tags += step
        if open_tags > MAX_OPEN_TAGS or open_items > MAX_UNCLOSED_ITEMS:
            return False
    return True


def sanitise(html: str) -> str:
    """Return safe HTML: no script, no remote load, links that open apart. Call ``is_buildable`` first.

    Remote images wait in ``data-src``; ``cid:`` ones stay in ``src``. Idempotent but for ``data-src``, which a
    second pass drops: call it once.
    """
    safe = (_PAINTER if _BACKGROUND.search(html) else _CLEANER).clean(html)
    if "<img" in safe:
        safe = _IMG.sub(_block_remote, safe)
    if 'href="cid:' in safe:
        safe = _CID_LINK.sub("", safe)
    if ' style="' in safe:
        if "(" in safe:
            safe = _RISKY_STYLE.sub("", safe)
        if "\\" in safe or "@" in safe:
            safe = _ESCAPED_STYLE.sub("", safe)
    return charset.without_nul(safe)


def _block_remote(match: re.Match[str]) -> str:
    return "<img" + _REMOTE_SRC.sub(' data-src="', match[1]) + ">"


def has_quote_marks(safe: str) -> bool:
    """Whether sanitised HTML has anything that mail programs put at quotes and signatures."""
    return any(mark in safe for mark in _QUOTE_TRACES)


def to_text(html: str) -> str:
    """Return the readable text of (sanitised) HTML: blocks as lines, lists with bullets, cells with tabs."""
    text = extract_plain_text(html, main_content=False, alt_texts=True, links=False, list_bullets=True)
    return tidy_text(charset.clean(text))


def strip_tags(html: str) -> str:
    """Return the words of HTML without building a tree: linear, for what ``is_buildable`` turns away."""
    out: list[str] = []
    at, size = 0, len(html)
    lowered = html.lower()
    while at < size:
        begin = html.find("<", at)
        if begin < 0:
            out.append(html[at:])
            break
        out.append(html[at:begin])
        match = _TAG_NAME.match(html, begin)
        if match is None and html[begin + 1 : begin + 2] not in ("!", "?"):
            out.append("<")
            at = begin + 1
            continue
        closer = "-->" if html.startswith("<!--", begin) else ">"
        end = html.find(closer, begin + 1)
        if end < 0:
            out.append(html[begin:])  # an open end: better a tag shown than a word lost
            break
        at = end + len(closer)
        name = match[2].lower() if match else ""
        if name in _BLOCKS:
            out.append("\n")
        elif name in {"td", "th"}:
            out.append("\t")
        if name in {"script", "style", "title"} and match is not None and not match[1]:
            end = lowered.find(f"</{name}", at)
            at = size if end < 0 else end
    return tidy_text(charset.clean(entities.unescape("".join(out))))


def tidy_text(text: str) -> str:
    """Plain spaces for fixed ones, ``\\n`` line ends, no blanks at line ends, at most one empty line."""
    text = charset.with_line_feeds(text)
    if "\xa0" in text:
        text = text.replace("\xa0", " ")
    for invisible in ("\u200b", "\ufeff", "\u00ad", "\u034f", "\u2060"):
        if invisible in text:
            text = text.replace(invisible, "")
    if " \n" in text or "\t\n" in text:  # a regular expression would be quadratic in long runs of spaces
        text = "\n".join(line if line.endswith("-- ") else line.rstrip(" \t") for line in text.split("\n"))
    if "\n\n\n" in text:
        text = _BLANKS.sub("\n\n", text)
    return text.strip("\n").rstrip()


def from_text(text: str) -> str:
    """Return plain text as HTML, for a mail that mixes both."""
    return f'<div style="white-space:pre-wrap">{entities.escape(text, quote=False)}</div>'
