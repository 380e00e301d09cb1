"""How pages are drawn: one Jinja2 environment that escapes everything, the filters of the templates.

Whatever is shown was written by strangers. Templates never use ``safe``; the only markup that is not ours is the
sanitised body of a mail, which ``mail_body`` lets through into a document of its own.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web
from markupsafe import Markup

#: Nothing leaves for other sites. With ``no-referrer`` browsers would call the origin of our own forms "null" (Fetch,
#: "append a request Origin header"), and the check of the origin would refuse them.
REFERRER_POLICY = "same-origin"
MAX_NAME_CHARS = 300
MAX_MARKS = 4  #: combining characters on one letter (T-E08)
JOINERS = frozenset("\u200c\u200d")  # Persian and emoji are spelled with them
BIDI = {
    "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF", "\u202d": "LRO", "\u202e": "RLO",
    "\u2066": "LRI", "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI",
}  # fmt: skip


def age(moment: datetime | None, now: datetime) -> str:
    """How long ago, in the fewest words: the script brings it up to date."""
    if moment is None:
        return ""
    seconds = (now - moment).total_seconds()
    for limit, unit, name in ((60, 1, ""), (3600, 60, "min"), (86_400, 3600, "h"), (7 * 86_400, 86_400, "d")):
        if seconds < limit:
            return f"{int(seconds // unit)} {name}" if name else "now"
    return moment.astimezone(UTC).strftime("%-d %b")


def moment(value: datetime | None) -> str:
    """A moment for readers without the script: UTC and said so."""
    return value.astimezone(UTC).strftime("%-d %b %Y, %H:%M UTC") if value else ""


def iso(value: datetime | None) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds") if value else ""


def size(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    if count < 1024 * 1024:
        return f"{count / 1024:.0f} KB"
    return f"{count / 1024 / 1024:.1f} MB"


def shown(text: str | None, limit: int = MAX_NAME_CHARS) -> str:
    """A name, subject or file name as one harmless line: what would reorder or hide its neighbours is made visible."""
    kept: list[str] = []
    marks = 0
    for char in (text or "")[: limit * 4]:
        category = unicodedata.category(char)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > MAX_MARKS:
            continue
        if char in BIDI:
            kept.append(f"[{BIDI[char]}]")
        elif category in ("Cc", "Zl", "Zp"):
            kept.append(" ")
        elif category in ("Cf", "Cs", "Co") and char not in JOINERS:
            kept.append("·")
        else:
            kept.append(char)
    line = " ".join("".join(kept).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def initials(name: str | None) -> str:
    words = [word for word in shown(name, 80).replace("@", " ").split() if word[0].isalnum()]
    picked = words[:1] + words[1:][-1:]
    return "".join(word[0] for word in picked).upper() or "?"


def label(word: str | None) -> str:
    return (word or "").replace("_", " ")


def mail_body(sanitised: str) -> Markup:
    """The one place where markup of a stranger passes. ``gateway.normalize.html.sanitise`` made it, once, on receipt;
    it is only ever drawn by ``mail_frame.html``, in a sandboxed frame under a policy that loads and runs nothing.
    """
    return Markup(sanitised)  # noqa: S704 - the reviewed exception, see above


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "age": age, "moment": moment, "iso": iso, "size": size, "shown": shown, "initials": initials, "label": label,
    }  # fmt: skip
    return made


ENVIRONMENT = _environment()


def draw(name: str, context: Mapping[str, Any], *, status: int = 200) -> web.Response:
    """Render a template that needs no frame around it: the doors, refusals, mail bodies."""
    text = ENVIRONMENT.get_template(name).render(**context)
    return web.Response(
        status=status, text=text, content_type="text/html", headers={"Referrer-Policy": REFERRER_POLICY}
    )
