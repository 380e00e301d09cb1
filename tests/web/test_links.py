"""Whatever a link says, the place where it leads stands beside it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.normalize.html import is_buildable, sanitise
from gateway.web.console.links import with_places

BANK, EVIL = "bank.test", "evil.test"


@pytest.mark.proves("T-E04")
@pytest.mark.parametrize(
    ("href", "text", "place"),
    [
        (f"https://{BANK}/", f"https://{BANK}/", None),
        (f"https://{BANK}/a.html?b=c.d", f"{BANK}/a.html?b=c.d", None),
        (f"https://www.{BANK}/login", BANK, None),
        (f"https://{BANK}/", f"www.{BANK.upper()}", None),
        (f"https://{EVIL}/", f"https://{BANK}/", EVIL),
        (f"https://{EVIL}/", "Click here", EVIL),
        (f"https://{EVIL}/", "", EVIL),
        (f"https://{EVIL}/", f"{BANK} or {EVIL}", EVIL),
        (f"https://{BANK}@{EVIL}/", f"https://{BANK}@{EVIL}/", EVIL),
        (f"https://{BANK}:443@{EVIL}:8443/", BANK, EVIL),
        (f"https://{BANK}.{EVIL}/", BANK, f"{BANK}.{EVIL}"),
        (f"https:\\\\{EVIL}\\{BANK}/", BANK, EVIL),
        (f"https:{EVIL}/", BANK, EVIL),
        (f"https:////{EVIL}/", BANK, EVIL),
        (f"HTTPS://{EVIL.upper()}/", BANK, EVIL),
        (f"https://ev%69l.test/{BANK}", BANK, EVIL),
        (f"https://{EVIL}?{BANK}/", BANK, EVIL),
        (f"https://{EVIL}#@{BANK}/", BANK, EVIL),
        (
            "https://b\u0430nk.test/",
            "b\u0430nk.test",
            "xn--bnk-6cd.test",
        ),  # a Cyrillic letter
        ("https://b\u0430nk.test/", BANK, "xn--bnk-6cd.test"),
        ("https://xn--bnk-6cd.test/", "xn--bnk-6cd.test", None),
        (f"https://{EVIL}/", f"{EVIL}/ {BANK}", EVIL),
        ("https://evil\u3002test/", BANK, EVIL),
        ("https://192.0.2.1/", BANK, "192.0.2.1"),
        ("https://3221225985/", BANK, "3221225985"),
        ("mailto:joe@evil.test", "joe@bank.test", "joe@evil.test"),
        ("mailto:joe@evil.test?subject=x", "joe@evil.test", None),
        ("tel:+4912345", "+49 123-45", None),
        ("tel:+4912345", "0800 1", "+4912345"),
        ("tel:+4912345", "bank 49 12345", "+4912345"),
        ("https://192.0.2.1/", "192.0.2.1", None),
        ("https://192.0.2.1/", "1920 21", "192.0.2.1"),
    ],
)
def test_the_real_place_is_shown_where_the_text_does_not_name_it(href: str, text: str, place: str | None) -> None:
    shown = with_places(sanitise(f'<p><a href="{href}">{text}</a> and more</p>'))
    assert shown.count('<span class="place">') == (place is not None)
    if place is not None:
        assert f'</a><span class="place"> [{place}]</span> and more' in shown


@pytest.mark.proves("T-E04", "T-E01")
@pytest.mark.parametrize(
    "html",
    [
        f'<p title="<a>"><a href="https://{EVIL}">{BANK}</a></p>',
        f'<a href="https://{EVIL}"><img alt="</a>" src="cid:x">{BANK}</a>',
        f'<a href="https://{EVIL}" title="&quot;><b>">{BANK}</a>',
        f'<a href="https://{EVIL}"><span title="{EVIL}">{BANK}</span></a>',
        f'<a href="https://{EVIL}">ba<b>nk</b>.test</a>',
        f'<a href="https://{EVIL}">{BANK}',
        f'<a href="https://{EVIL}">{BANK}<a href="https://{BANK}">{BANK}</a></a>',
        f'<table><a href="https://{EVIL}">{BANK}</a><tr><td>x</table>',
    ],
)
def test_no_markup_around_a_link_keeps_the_place_away_or_breaks_out(html: str) -> None:
    safe = sanitise(html)
    shown = with_places(safe)
    assert f'</a><span class="place"> [{EVIL}]</span>' in shown
    assert shown.replace(f'<span class="place"> [{EVIL}]</span>', "") == safe


@pytest.mark.proves("T-E04", "T-E02")
@pytest.mark.parametrize(
    "style",
    ["text-indent:-999px", "margin-left: -99em", "margin:0 0 0 -9px", "margin-left:calc(1px - 999px)",
     "margin-left:calc(9px * (1 - 9))", "MARGIN-LEFT:-9px"],
)  # fmt: skip
def test_nothing_moves_the_place_out_of_the_page(style: str) -> None:
    html = f'<p style="color:red;{style};font-size:2em"><a href="https://{EVIL}">go</a></p>'
    shown = with_places(sanitise(html))
    assert "-9" not in shown.replace("margin-left", "")
    assert "- 9" not in shown
    assert "color:red" in shown
    assert "font-size:2em" in shown


@pytest.mark.proves("T-E04")
def test_a_host_cannot_smuggle_markup_or_push_its_end_out_of_sight() -> None:
    shown = with_places(sanitise('<a href="https://x%3Cscript%3E%22.test/">go</a>'))
    assert "<script" not in shown
    long = f"https://{'a.' * 200}{EVIL}/"
    assert f".{EVIL}]" in with_places(sanitise(f'<a href="{long}">go</a>'))


@given(st.lists(st.sampled_from(
    ['<a href="https://evil.test/">', '<a href="tel:1">', "<a>", "</a>", "<p title='<a href=x>'>", "</p>", "bank.test",
     "<", ">", '"', "&lt;a&gt;", "<b>", "</b>", "<img alt='</a>' src='cid:1'>", "<table>", "<td>", "</table>"]
), max_size=30))  # fmt: skip
def test_any_html_keeps_all_that_it_had(pieces: list[str]) -> None:
    html = "".join(pieces)
    if not is_buildable(html):
        return
    safe = sanitise(html)
    shown = with_places(safe)
    for place in ("evil.test", "1"):
        shown = shown.replace(f'<span class="place"> [{place}]</span>', "")
    assert shown == safe
