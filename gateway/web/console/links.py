"""Where the links of a mail lead, said beside them (T-E04).

The text of a link says what its sender likes. After every link whose text does not name the very place that it leads
to, that place is written: the host of a web address as a browser reads it (WHATWG URL, sections 3.5 and 4.4), in
ASCII, so that no letter passes for another; the address of a mail link; the number of a telephone link. The page's
style makes sure that nothing around it hides it or turns it round; here goes what would move it out of sight while the
link stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape, unescape
from urllib.parse import unquote

import idna

#: One tag as the sanitiser writes it. Quotes inside of values are escaped there, other signs are not.
TAG = re.compile(r'<(/?)([a-z][a-z0-9]*)((?: [a-z-]+="[^"]*")*)>')
HREF = re.compile(r' href="([^"]*)"')
#: What a reader takes for the name of a host; a version number or an amount is none.
NAMED = re.compile(r"(?:[^\W_](?:[\w-]{0,62}))(?:[.\u3002\uff0e\uff61][\w-]{1,63}){1,20}")
DOTS = re.compile(r"[\u3002\uff0e\uff61]")
#: A negative margin or indent; what else may stand in a style cannot leave the line or the page to the left.
LEFTWARD = re.compile(r'\b(?:margin|text-indent)[a-z-]*:[^;"]*-[^;"]*;?')
MAX_SHOWN = 100
MAX_TEXT = 2000  #: of a link's text that is looked at


@dataclass(slots=True)
class _Open:
    """A link whose end is still to come."""

    target: str
    text: list[str] = field(default_factory=list)


def with_places(sanitised: str) -> str:
    """Return sanitised HTML with the place behind each link that does not name it. Linear; all words are kept."""
    if "<a " not in sanitised:
        return sanitised
    done: list[str] = []
    at = 0
    link: _Open | None = None
    for tag in TAG.finditer(sanitised):
        between = sanitised[at : tag.start()]
        if "<" in between:
            return sanitised  # not as the sanitiser writes: better no word than one in the wrong place
        done += (between, LEFTWARD.sub("", tag[0]) if ' style="' in tag[3] else tag[0])
        at = tag.end()
        if link is not None:
            link.text.append(between)
        if tag[2] == "a":
            if tag[1] and link is not None:
                done.append(_note(link))
                link = None
            elif not tag[1]:
                href = HREF.search(tag[3])
                link = _Open(target=unescape(href[1])) if href else None
    return "".join([*done, sanitised[at:]])


def _note(link: _Open) -> str:
    place = place_of(link.target)
    text = unescape("".join(link.text)[:MAX_TEXT])
    if not place or is_named(place, text):
        return ""
    shown = place if len(place) <= MAX_SHOWN else "…" + place[-MAX_SHOWN:]  # the end of a host says whose it is
    return f'<span class="place"> [{escape(shown)}]</span>'


def place_of(target: str) -> str:
    """Return the host, mail address or number that a link leads to; empty for one that leads nowhere."""
    target = "".join(char for char in target.strip() if char not in "\t\r\n")
    scheme, colon, rest = target.partition(":")
    match scheme.lower():
        case "mailto":
            return unquote(rest.partition("?")[0]).strip()
        case "tel":
            return unquote(rest).strip()
        case "http" | "https" if colon:
            authority = re.split(r"[/\\?#]", rest.lstrip("/\\"), maxsplit=1)[0]
            return host_of(authority.rpartition("@")[2])
        case _:
            return ""


def host_of(authority: str) -> str:
    """Return a host without its port, lower case, in ASCII where it can be written so."""
    host = DOTS.sub(".", unquote(re.sub(r":\d*$", "", authority))).lower().rstrip(".")
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError:
        return host.encode("ascii", "backslashreplace").decode("ascii")


def is_named(place: str, text: str) -> bool:
    """Whether a link's text names this place letter by letter, and no other one."""
    words = text.lower().split()
    if "@" in place:
        return place.lower() in words and len(words) == 1
    if place.startswith("+") or place.isdigit():
        digits = "".join(filter(str.isdigit, place))
        return digits == "".join(filter(str.isdigit, text)) and not any(map(str.isalpha, text))
    names = []
    for word in words:
        host = word.removeprefix("https://").removeprefix("http://").partition("/")[0]
        names += [name for name in NAMED.findall(host) if name == place or any(map(str.isalpha, name.split(".")[-1]))]
    return bool(names) and all(_bare(name) == _bare(place) for name in names)


def _bare(host: str) -> str:
    return host.removeprefix("www.")
