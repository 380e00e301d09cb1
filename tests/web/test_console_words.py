"""What the console makes of texts that strangers wrote, and of what agents type."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from core.errors import Invalid
from core.figures import STANDINGS, ChannelLedger
from gateway.normalize.addresses import parse_address_list
from gateway.web.console import answers, messages, templating
from gateway.web.console.charts import HEIGHT, stacked_days
from gateway.web.console.ledger import statement
from gateway.web.console.tickets import _mailbox
from gateway.web.console.words import sureness, warnings_of

TEMPLATES = sorted((Path(templating.__file__).parent / "templates").glob("*.html"))
TOKENS = Path(templating.__file__).parent.parent / "ui" / "tokens.css"


@pytest.mark.proves("T-E07", "T-E08")
@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Jane Doe", "Jane Doe"),
        ("invoice\u202efdp.exe", "invoice[RLO]fdp.exe"),
        ("a\u200bb\ufeffc", "a·b·c"),
        ("two\nlines\x00and\x1bmore", "two lines and more"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("e" + "\u0301" * 50, "e" + "\u0301" * templating.MAX_MARKS),
        (None, ""),
    ],
)
def test_a_name_is_shown_as_one_harmless_line(text: str | None, seen: str) -> None:
    assert templating.shown(text) == seen


@pytest.mark.proves("T-E08")
def test_an_endless_name_is_cut() -> None:
    assert len(templating.shown("x" * 1_000_000)) == templating.MAX_NAME_CHARS


@pytest.mark.proves("T-E06")
def test_templates_escape_everything() -> None:
    """``safe`` is banned, and so is every other way around the escaping."""
    for path in TEMPLATES:
        text = path.read_text("utf-8")
        assert "|safe" not in text.replace(" ", ""), path.name
        assert "autoescape" not in text, path.name
    made = templating.ENVIRONMENT.from_string("{{ words }}").render(words="<b>&\"'")
    assert made == "&lt;b&gt;&amp;&#34;&#39;"


@pytest.mark.proves("T-E06")
def test_only_one_function_lets_markup_pass() -> None:
    folder = Path(templating.__file__).parent
    users = [path.name for path in folder.glob("*.py") if "Markup" in path.read_text("utf-8")]
    assert users == ["templating.py"]
    callers = [path.name for path in folder.glob("*.py") if "mail_body(" in path.read_text("utf-8")]
    assert sorted(callers) == ["messages.py", "templating.py"]


@pytest.mark.proves("T-E01")
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_pages_have_no_inline_script_or_style(path: Path) -> None:
    """The content policy would stop them; the frame that shows a mail has a policy of its own."""
    text = path.read_text("utf-8").lower()
    assert " onclick=" not in text
    assert "hx-on" not in text
    assert " style=" not in text
    assert "<script>" not in text
    assert ("<style>" in text) == (path.name == "mail_frame.html")


@pytest.mark.proves("T-E01", "T-E03")
def test_the_frame_of_a_mail_may_load_and_run_nothing() -> None:
    rules = dict(rule.strip().partition(" ")[::2] for rule in messages.FRAME_POLICY.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "script-src" not in rules
    assert "allow-scripts" not in rules["sandbox"]
    assert "allow-same-origin" not in rules["sandbox"]


@pytest.mark.proves("T-D08")
@pytest.mark.parametrize(
    "name", ['a"; filename=b.exe', "line\r\nSet-Cookie: x=1", "фактура.pdf", "", "a" * 5000, "\u202egnp.exe", "é"]
)
def test_a_file_name_cannot_leave_its_header(name: str) -> None:
    header = messages.disposition(name)
    assert header.isascii()
    assert header.isprintable()
    assert header.startswith('attachment; filename="')
    assert header.count('"') == 2
    assert len(header) < 3000


def test_raw_bytes_are_shown_whatever_they_are() -> None:
    assert messages.raw_text("é\r\n".encode()) == "é\n"
    assert messages.raw_text(b"\xff\xfe\x00x") != ""


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("", []),
        ("jane@customer.test", ["jane@customer.test"]),
        ('"Doe, Jane" <jane@customer.test>, bob@customer.test', ["jane@customer.test", "bob@customer.test"]),
        ("a@x.test; b@x.test", ["a@x.test", "b@x.test"]),
    ],
)
def test_address_fields_are_read(field: str, wanted: list[str]) -> None:
    assert [person.address for person in answers._people("to", field)] == wanted


@pytest.mark.parametrize("field", ["Jane", "jane@customer.test, Bob", "@", "<>"])
def test_an_address_that_cannot_be_read_is_refused_and_not_left_out(field: str) -> None:
    with pytest.raises(Invalid):
        answers._people("to", field)


@pytest.mark.parametrize("name", ["Jane Doe", 'Ja"ne, \\Doe', "a\r\nBcc: x@y.test", "", "佐藤 美咲"])
def test_what_the_composer_fills_in_is_read_back_as_one_person(name: str) -> None:
    found = parse_address_list(_mailbox(name, "jane@customer.test"))
    assert [person.address for person in found] == ["jane@customer.test"]


@pytest.mark.proves("R5.9")
@pytest.mark.parametrize(("offset", "hour"), [(0, 9), (120, 7), (-300, 14)])
def test_a_time_is_meant_in_the_zone_of_the_writer(offset: int, hour: int) -> None:
    assert answers._moment("2026-03-02T09:00", offset) == datetime(2026, 3, 2, hour, tzinfo=UTC)


def test_a_file_that_did_not_arrive_whole_is_refused() -> None:
    for text in ("{", "[]", '{"name": "x"}', '{"name": "x", "content": "%%%"}'):
        with pytest.raises(Invalid):
            answers._file(text)
    made = answers._file('{"name": "x.txt", "type": "text/plain\\r\\nX: y", "content": "aGk="}')
    assert (made.content, made.content_type) == (b"hi", "application/octet-stream")


@pytest.mark.proves("R3.2")
def test_sureness_and_warnings_are_words() -> None:
    assert sureness("certain").startswith("Certain")
    assert warnings_of(["charset-wrong:x", "charset-wrong", "header-separator-missing"]) == [
        "The mail does not say how its letters are written; some may look wrong."
    ]
    assert warnings_of(["never-heard-of"]) == ["Never heard of."], "an unknown warning is not kept back"


@pytest.mark.proves("R1.2")
@pytest.mark.parametrize(
    ("offered", "standings", "words"),
    [
        (0, {}, "Nothing came in yet."),
        (3, {"ticketed": 2, "repeat": 1}, "All 3 messages that came in are accounted for: nothing is missing."),
        (3, {"ticketed": 2, "gaps": 1}, "1 of 3 messages could not be fetched yet"),
        (3, {"ticketed": 2}, "1 of 3 messages could not be fetched yet"),
        (2, {"ticketed": 1, "quarantined": 1}, "1 could not be read and wait in quarantine."),
    ],
)
def test_the_gap_statement_says_what_is_missing(offered: int, standings: dict[str, int], words: str) -> None:
    item = ChannelLedger(
        channel_id=1,
        channel_public_id="c",
        channel_name="Support",
        offered=offered,
        standings=dict.fromkeys(STANDINGS, 0) | standings,
        folders=(),
    )
    assert words in statement(item)


def test_bars_stack_up_to_the_highest_day() -> None:
    days = stacked_days(
        {date(2026, 3, 1): {"sent": 1, "delayed": 1}, date(2026, 3, 2): {"sent": 4}}, ["sent", "delayed"]
    )
    assert [round(sum(part.height for part in day.parts)) for day in days] == [HEIGHT / 2, HEIGHT]
    assert [part.status for part in days[0].parts] == ["sent", "delayed"]
    assert days[0].parts[1].y + days[0].parts[1].height == days[0].parts[0].y
    assert stacked_days({}, ["sent"]) == []


@pytest.mark.proves("R12.1")
@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        *(
            (ink, ground)
            for ink in ("ink", "ink-soft", "ink-faint")
            for ground in ("ground", "surface", "raised", "sunken")
        ),
        *((name, f"{name}-soft") for name in ("good", "warn", "bad", "info")),
        *(("ink", f"{name}-soft") for name in ("good", "warn", "bad", "info", "accent")),
        ("accent", "surface"),
        ("accent", "ground"),
        ("accent-ink", "accent"),
        ("accent-strong", "accent-soft"),
        ("bad", "surface"),
    ],
)
def test_every_text_colour_stands_out_from_its_ground(ink: str, ground: str, theme: int) -> None:
    """WCAG 2.2, success criterion 1.4.3: 4.5 to 1."""
    assert contrast(colour(ink, theme), colour(ground, theme)) >= 4.5


def colour(name: str, theme: int) -> str:
    line = next(line for line in TOKENS.read_text("utf-8").splitlines() if line.strip().startswith(f"--{name}:"))
    return line.split("light-dark(")[1].split(")")[0].split(",")[theme].strip()


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(hexed: str) -> float:
    parts = [int(hexed[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
