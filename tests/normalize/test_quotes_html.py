"""New words, quotes and signatures of HTML mails: the marks of the usual clients, and what has no marks."""
# ruff: noqa: E501 -- what a client writes is kept on one line

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from gateway.normalize.quotes import HtmlSplit, split_html


def words(html: str) -> str:
    body = LexborHTMLParser(html).body
    return "" if body is None else " ".join(body.text(deep=True, separator=" ").split())


def split(html: str) -> HtmlSplit:
    return split_html(html, to_text=words)


HEADER = "<b>From:</b> Desk &lt;desk@example.test&gt;<br><b>Sent:</b> Monday, May 5, 2024 10:00 AM<br><b>To:</b> Jane<br><b>Subject:</b> Order"
CLIENTS = {
    "gmail": '<div dir="ltr">NEW</div><br><div class="gmail_quote gmail_quote_container"><div dir="ltr" class="gmail_attr">On Mon, Desk wrote:<br></div><blockquote class="gmail_quote" style="margin:0">OLD</blockquote></div>',
    "gmail japanese": '<div dir="ltr">NEW</div><div class="gmail_quote"><div class="gmail_attr">2024年5月5日(日) Desk:<br></div><blockquote class="gmail_quote">OLD</blockquote></div>',
    "gmail before 2018": '<div>NEW</div><div class="gmail_extra"><br><div class="gmail_quote">2012/5/5 Desk <span>&lt;desk@example.test&gt;</span><br><blockquote class="gmail_quote">OLD</blockquote></div></div>',
    "gmail forward": '<div dir="ltr">NEW<br><br><div class="gmail_quote"><div class="gmail_attr">---------- Forwarded message ---------<br>From: <b>Desk</b><br>Subject: x<br></div><p>OLD</p><blockquote>OLD quote</blockquote><p>OLD end</p></div></div>',
    "outlook web": f'<div>NEW</div><div id="appendonsend"></div><hr tabindex="-1"><div id="divRplyFwdMsg" dir="ltr">{HEADER}</div><div>OLD</div><p>OLD too</p>',
    "outlook web without appendonsend": f'<div>NEW</div><hr><div id="divRplyFwdMsg">{HEADER}</div><div>OLD</div>',
    "outlook new": f'<div>NEW</div><div id="mail-editor-reference-message-container"><div>{HEADER}</div><div>OLD</div></div>',
    "outlook desktop": f'<div class="WordSection1"><p class="MsoNormal">NEW</p><div><div style="border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt 0cm 0cm 0cm"><p class="MsoNormal">{HEADER}</p></div></div><p class="MsoNormal">OLD</p></div>',
    "outlook desktop old": f'<div class="WordSection1"><p>NEW</p><div style="border:none; border-top:solid #B5C4DF 1.0pt"><p>{HEADER}</p></div><p>OLD</p></div>',
    "outlook desktop in an unknown language": '<div class="WordSection1"><p>NEW</p><div style="border:none;border-top:solid #E1E1E1 1.0pt"><p><b>Zmurf:</b> Desk<br><b>Blorg:</b> May 5, 2024<br><b>Tz:</b> Jane<br><b>Sblerg:</b> OLD</p></div><p>OLD</p></div>',
    "outlook without marks": f"<div>NEW</div><p>{HEADER}</p><p>OLD</p>",
    "outlook 2003": '<div>NEW</div><blockquote style="margin-left:5px"><div class="OutlookMessageHeader"><b>From:</b> Desk<br></div><div>OLD</div></blockquote>',
    "outlook mobile": f'<div>NEW</div><div class="ms-outlook-mobile-reference-message">{HEADER}</div><div>OLD</div>',
    "hotmail": '<div>NEW</div><hr id="stopSpelling">Date: x<br>From: desk@example.test<br>OLD',
    "mac outlook": f'<div>NEW</div><span id="OLK_SRC_BODY_SECTION"><div>{HEADER}</div><div>OLD</div></span>',
    "apple mail": '<div>NEW<br><div><br><blockquote type="cite"><div>On 5 May 2024, at 10:00, Desk &lt;desk@example.test&gt; wrote:</div><br><div>OLD</div></blockquote></div></div>',
    "apple mail attribution outside": '<div>NEW</div><div>On 5 May 2024, at 10:00, Desk &lt;desk@example.test&gt; wrote:</div><br><blockquote type="cite"><div>OLD</div></blockquote>',
    "thunderbird": '<p>NEW</p><div class="moz-cite-prefix">Am 05.05.24 um 10:00 schrieb Desk:<br></div><blockquote type="cite" cite="mid:x">OLD</blockquote>',
    "thunderbird forward": '<p>NEW</p><div class="moz-forward-container"><br>-------- Forwarded Message --------<table class="moz-email-headers-table"><tr><th>Subject:</th><td>x</td></tr></table>OLD</div>',
    "yahoo": '<div>NEW</div><div id="yahoo_quoted_123" class="yahoo_quoted"><div>On Sunday Desk wrote:</div><div>OLD</div></div>',
    "proton": '<div>NEW</div><div class="protonmail_quote">On Sunday, Desk wrote:<br><blockquote class="protonmail_quote" type="cite">OLD</blockquote></div>',
    "zimbra": '<div>NEW</div><hr id="zwchr" data-marker="__DIVIDER__"><div data-marker="__HEADERS__"><b>From: </b>Desk<br></div><div data-marker="__QUOTED_TEXT__">OLD</div>',
    "zoho": '<div>NEW</div><div class="zmail_extra"><div>---- On Sun, 05 May 2024 Desk wrote ----</div><blockquote>OLD</blockquote></div>',
    "roundcube": '<p>NEW</p><p id="reply-intro">On 2024-05-05 10:00, Desk wrote:</p><blockquote type="cite">OLD</blockquote>',
    "gmx": '<div>NEW</div><div name="quote" style="margin:10px"><div><b>Gesendet:</b> Sonntag<br><b>Von:</b> Desk</div>OLD</div>',
    "plain block quote below an attribution": "<p>NEW</p><p>On 5 May 2024 at 10:00, Desk &lt;desk@example.test&gt; wrote:</p><blockquote><p>OLD</p></blockquote>",
    "lotus notes": "<p>NEW</p><p><font>Desk &lt;desk@example.test&gt; wrote on 05/05/2024 10:00:00 AM:</font></p><p>OLD</p>",
    "samsung": "<div>NEW</div><div><br></div><div>-------- Ursprüngliche Nachricht --------</div><div>Von: Desk </div><div>Datum: 05.05.24 </div><div>OLD</div>",
    "header block in a table": "<p>NEW</p><table><tr><td>From:</td><td>Desk desk@example.test</td></tr><tr><td>To:</td><td>Jane</td></tr><tr><td>Date:</td><td>05/05/2024 10:00</td></tr><tr><td>Subject:</td><td>x</td></tr></table><p>OLD</p>",
    "k-9": '<div dir="auto">NEW</div><div class="gmail_quote" dir="auto"><div>Am 5. Mai 2024 10:00:00 MESZ schrieb Desk &lt;desk@example.test&gt;:</div><blockquote class="gmail_quote">OLD</blockquote></div>',
    "qq": '<div>NEW</div><div style="FONT-SIZE:12px">------------------&nbsp;原始邮件&nbsp;------------------</div><div style="background:#efefef"><div><b>发件人:</b>&nbsp;"Desk"&lt;desk@example.test&gt;;</div><div><b>发送时间:</b>&nbsp;2024年5月5日</div></div><div>OLD</div>',
    "mail.ru": '<div>NEW</div><blockquote style="border-left:1px solid #0857A6">Воскресенье, 5 мая 2024, 10:00 +03:00 от Desk &lt;desk@example.test&gt;:<br><div>OLD</div></blockquote>',
    "yandex": '<div>NEW</div><div>05.05.2024, 10:00, "Desk" &lt;desk@example.test&gt;:</div><blockquote><div>OLD</div></blockquote>',
    "fairemail": '<div>NEW</div><div>5 May 2024 10:00:00 Desk &lt;desk@example.test&gt;:</div><blockquote style="border-left:3px solid #ccc"><div>OLD</div></blockquote>',
    "naver": '<div>NEW</div><p>-----Original Message-----<br><b>From:</b> "Desk"&lt;desk@example.test&gt;<br><b>To:</b> Jane<br><b>Cc:</b><br><b>Sent:</b> 2024-05-05 (일) 10:00:00 (GMT+09:00)<br><b>Subject:</b> x</p><div>OLD</div>',
    "daum": "<p>NEW</p><p>--------- 원본 메일 ---------</p><blockquote><p><b>보낸사람:</b> Desk &lt;desk@example.test&gt;<br><b>날짜:</b> 2024년 5월 5일</p>OLD</blockquote>",
    "orange": '<p>NEW</p><blockquote><p>&gt; Message du 05/05/24 10:00<br>&gt; De : "Desk" &lt;desk@example.test&gt;<br>&gt; A : Jane<br>&gt; Objet : x<br>&gt; OLD</p></blockquote>',
    "mailspring": '<div>NEW</div><div class="gmail_quote_attribution">On May 5 2024, at 10:00 am, Desk &lt;desk@example.test&gt; wrote:</div><blockquote class="gmail_quote"><div>OLD</div></blockquote>',
    "jira": "<div>NEW</div><div>—-—-—-—</div><div>Reply above this line.</div><div>Jane commented: OLD</div>",
    "windows mail": '<div>NEW</div><div style="padding-top:5px;border-top-color:rgb(229,229,229);border-top-width:1px;border-top-style:solid"><b>Zmurf:</b> Desk<br><b>Blorg:</b> May 5<br><b>Tz:</b> Jane</div><div>OLD</div>',
    "spark": '<div name="messageBodySection">NEW</div><div name="messageReplySection">OLD</div>',
    "block quote with its own attribution": "<div>NEW</div><blockquote><div>On 5 May 2024, at 10:00, Desk &lt;desk@example.test&gt; wrote:</div><div>OLD</div></blockquote>",
    "block quote with its own header block": f"<div>NEW</div><blockquote>{HEADER}<br>OLD</blockquote>",
    "gmail quote below an attribution alone": '<div>NEW</div><p>On Mon, May 5, 2024 at 10:00 AM Desk &lt;desk@example.test&gt; wrote:</p><blockquote class="gmail_quote">OLD</blockquote>',
    "our marker": "<div>NEW</div><div>##- Please type your reply above this line -##</div><table><tr><td>OLD</td></tr></table>",
    "plain text in pre": "<pre>NEW\n\nOn 5 May 2024 at 10:00, Desk &lt;desk@example.test&gt; wrote:\n&gt; OLD\n&gt; OLD too\n</pre>",
}


@pytest.mark.proves("R2.3")
@pytest.mark.parametrize("html", CLIENTS.values(), ids=CLIENTS.keys())
def test_new_words_stand_above_the_quote_of_each_client(html: str) -> None:
    parts = split(html)
    assert parts.is_split
    assert parts.new_text == "NEW"
    assert "OLD" in parts.quoted_text
    assert "NEW" not in parts.quoted_text
    assert sorted(words(html).split()) == sorted(f"{parts.new_text} {parts.quoted_text} {parts.signature_text}".split())


@pytest.mark.proves("R2.3")
@pytest.mark.parametrize(
    "html",
    [
        "<p>As the poet says:</p><blockquote>To be or not to be</blockquote><p>That is my question.</p>",
        "<blockquote>indented by me</blockquote>",
        '<p>As the poet says:</p><blockquote class="gmail_quote">To be or not to be</blockquote><p>That is it.</p>',
        '<div><div name="messageReplySection"><p>the only words</p></div></div>',
        "<blockquote>My words<br>On 5 May 2024, at 10:00, Desk &lt;desk@example.test&gt; wrote:<br>x</blockquote>",
        "<p>From: Berlin<br>To: Paris<br>Date: 5 May 2024 10:00</p>",
        '<div style="border-top:solid #E1E1E1 1.0pt"><p>my own rule</p></div>',
        "<p>one</p><hr><p>two</p>",
        "",
        "plain",
    ],
)
def test_own_words_are_not_cut(html: str) -> None:
    parts = split(html)
    assert not parts.is_split
    assert parts.new_html == html
    assert parts.quoted_html == parts.signature_html == ""


@pytest.mark.proves("R2.3")
@pytest.mark.parametrize(
    "html",
    [
        '<div class="gmail_quote"><div class="gmail_attr">On x, Desk wrote:</div><blockquote class="gmail_quote">OLD</blockquote><div>NEW 1</div><blockquote class="gmail_quote">OLD</blockquote><div>NEW 2</div></div>',
        '<div class="moz-cite-prefix">On x Desk wrote:</div><blockquote type="cite">OLD</blockquote><p>NEW 1</p><blockquote type="cite">OLD</blockquote><p>NEW 2</p>',
        '<blockquote type="cite"><div id="divRplyFwdMsg">From: x</div>OLD</blockquote>NEW 1<p>NEW 2</p>',
    ],
)
def test_answers_between_quotes_are_kept_in_order(html: str) -> None:
    assert split(html).new_text == "NEW 1 NEW 2"


@pytest.mark.proves("R2.3")
def test_own_block_quote_above_a_quote_stays() -> None:
    html = "<p>The poet says</p><blockquote>To be</blockquote><p>On 5/5/24 10:00, Desk wrote:</p><blockquote>OLD</blockquote>"
    parts = split(html)
    assert (parts.new_text, parts.quoted_text) == ("The poet says To be", "On 5/5/24 10:00, Desk wrote: OLD")


@pytest.mark.proves("R2.3")
@pytest.mark.parametrize(
    "signature",
    [
        '<div class="gmail_signature" data-smartmail="gmail_signature">Jane Doe</div>',
        '<span class="gmail_signature_prefix">-- </span><br><div class="gmail_signature">Jane Doe</div>',
        '<div class="moz-signature">-- <br>Jane Doe</div>',
        '<div id="Signature"><p>Jane Doe</p></div>',
        '<div id="ms-outlook-mobile-signature">Get <a href="https://aka.ms/x">Outlook for iOS</a> Jane Doe</div>',
        '<div class="protonmail_signature_block">Jane Doe</div>',
        "<div>-- </div><div>Jane Doe</div>",
    ],
)
def test_signature_stands_apart(signature: str) -> None:
    html = f'<div>NEW</div><br>{signature}<div class="gmail_quote"><div class="gmail_attr">x</div>OLD</div>'
    parts = split(html)
    assert parts.new_text == "NEW"
    assert "Jane Doe" in parts.signature_text
    assert "OLD" in parts.quoted_text


@pytest.mark.proves("R2.3")
def test_line_of_a_phone_is_a_signature() -> None:
    parts = split(
        '<div>NEW</div><br><div dir="ltr">Von meinem iPhone gesendet</div><blockquote type="cite">OLD</blockquote>'
    )
    assert (parts.new_text, parts.signature_text) == ("NEW", "Von meinem iPhone gesendet")


@pytest.mark.proves("R2.3")
def test_elements_around_both_are_written_on_both_sides_with_their_attributes() -> None:
    parts = split(
        '<div class="a" title="x &quot;y&quot;"><p>NEW <b>bold</b> &lt;x&gt;</p><blockquote type="cite">OLD</blockquote></div>'
    )
    assert parts.new_html == '<div class="a" title="x &quot;y&quot;"><p>NEW <b>bold</b> &lt;x&gt;</p></div>'
    assert parts.quoted_html == '<div class="a" title="x &quot;y&quot;"><blockquote type="cite">OLD</blockquote></div>'


@pytest.mark.proves("R2.3")
def test_image_of_the_new_part_stays_with_it() -> None:
    parts = split('<div>NEW<br><img src="cid:1"></div><blockquote type="cite"><img src="cid:2">OLD</blockquote>')
    assert "cid:1" in parts.new_html
    assert "cid:2" in parts.quoted_html
    assert "cid:2" not in parts.new_html


_TEXTS = st.sampled_from(
    ["a b", "c&lt;d", "From: Desk &lt;d@e.test&gt;", "To: x", "Subject: y", "Sent: 5 May 2024 10:00", "-- ", "&gt; q",
     "On 5 May 2024 at 10:00, Desk &lt;d@e.test&gt; wrote:", "Sent from my iPhone", "<br>", "<hr>", "<img src='x'>", "&nbsp;", "\n"]
)  # fmt: skip
_WRAPS = st.sampled_from(
    ["<div>{}</div>", "<p>{}</p>", "<b>{}</b>", "<blockquote>{}</blockquote>", "<blockquote type='cite'>{}</blockquote>",
     "<div class='gmail_quote'>{}</div>", "<div class='gmail_signature'>{}</div>", "<div id='appendonsend'>{}</div>", "<pre>{}</pre>",
     "<table><tr><td>{}</td></tr></table>", "<div class='gmail_attr'>{}</div>", "<ul><li>{}</li></ul>", "{}"]
)  # fmt: skip
_HTML = st.recursive(
    _TEXTS,
    lambda inner: st.builds(lambda wrap, items: wrap.format("".join(items)), _WRAPS, st.lists(inner, max_size=4)),
    max_leaves=24,
)


@pytest.mark.proves("R2.3")
@settings(max_examples=300, deadline=None)
@given(_HTML)
def test_every_word_comes_out_once(html: str) -> None:
    parts = split(html)
    spoken = f"{words(parts.new_html)} {words(parts.quoted_html)} {words(parts.signature_html)}"
    assert sorted(re.findall(r"\S", spoken)) == sorted(re.findall(r"\S", words(html)))
    assert len(re.findall(r"<img", parts.new_html + parts.quoted_html + parts.signature_html)) == html.count("<img")


@pytest.mark.proves("T-D12")
@pytest.mark.parametrize(
    "unit",
    ["<p>hello <b>world</b></p>", "<br>", "a<br>", "<blockquote>x</blockquote>", "<div class='gmail_quote'>x</div>", "<hr>",
     "<p>From: a@b.test</p>", "<pre>a\nb\nc</pre>", "<div style='border-top:solid'><b>x:</b></div>"],
)  # fmt: skip
def test_time_grows_with_the_document_and_no_faster(unit: str) -> None:
    def cost(count: int) -> float:
        html = f"<div>NEW</div>{unit * count}<blockquote type='cite'>OLD</blockquote>"
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            split_html(html, to_text=str)
            best = min(best, time.process_time() - started)
        return best

    assert cost(2000) < 30 * max(cost(250), 0.003)
