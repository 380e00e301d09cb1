"""Mails of office programs and phones: HTML, signatures, inline pictures, files, quotes, lengths."""

from __future__ import annotations

import base64
import struct
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from typing import Final

from gateway.sandbox.mails.scene import Scene, Sheet, boundary, file_part, finished, html_mail, text_mail, text_part

#: A 2 x 2 picture, which stands for the photo of a scratched table.
_PICTURE: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFElEQVR4nGM4ceLE1KlTGc6cOTN16lQAKfAGJ8bPc3gAAAAASUVORK5CYII="
)

GERMAN: Final = Scene(
    name="german-html-signature",
    person="Jörg Brandstätter",
    address="j.brandstaetter@brandstaetter.test",
    build=html_mail(
        "Rückfrage zur Lieferung 48209 – zwei Stühle fehlen",
        """
Guten Tag,

von den sechs bestellten Stühlen (Bestellung 48209) sind heute nur vier angekommen.
Auf dem Lieferschein stehen aber alle sechs. Kommt da noch ein zweites Paket?

Wir brauchen die Stühle spätestens am Donnerstag für den Besprechungsraum.

Mit freundlichen Grüßen
Jörg Brandstätter

--\x20
Brandstätter Holzbau GmbH
Mühlgasse 7, 4020 Linz
Tel. +43 732 000 000
""",
        """<html><body style="font-family:Calibri,sans-serif;font-size:11pt">
<p>Guten Tag,</p>
<p>von den <b>sechs</b> bestellten Stühlen (Bestellung 48209) sind heute nur <b>vier</b> angekommen.<br>
Auf dem Lieferschein stehen aber alle sechs. Kommt da noch ein zweites Paket?</p>
<p>Wir brauchen die Stühle spätestens am <u>Donnerstag</u> für den Besprechungsraum.</p>
<p>Mit freundlichen Grüßen<br>Jörg Brandstätter</p>
<div class="signature" style="color:#666;border-top:1px solid #ccc"><p>-- <br>
<b>Brandstätter Holzbau GmbH</b><br>Mühlgasse 7, 4020 Linz<br>Tel. +43&nbsp;732&nbsp;000&nbsp;000<br>
<a href="https://brandstaetter.test/">brandstaetter.test</a></p></div></body></html>
""",
        charset="windows-1252",
        mailer="eM_Client/9.2.2157.0",
    ),
    replies=(
        "Danke für die schnelle Antwort. Dann warte ich auf das zweite Paket. "
        "Können Sie mir die Sendungsnummer schicken?",
    ),
)

ARABIC: Final = Scene(
    name="arabic-html-rtl",
    person="ليلى حداد",
    address="layla.haddad@customer.test",
    build=html_mail(
        "استفسار عن استرجاع المبلغ",
        """
السلام عليكم،

أعدت السجادة (الطلب 48165) قبل أسبوعين، ورقم الشحنة هو RR 204 118 773.
حتى الآن لم يصل المبلغ إلى حسابي. هل يمكنكم التأكد من وصول الطرد؟

مع الشكر،
ليلى حداد
""",
        """<div dir="rtl" lang="ar" style="text-align:right"><p>السلام عليكم،</p>
<p>أعدت السجادة (الطلب <b>48165</b>) قبل أسبوعين، ورقم الشحنة هو <span dir="ltr">RR 204 118 773</span>.<br>
حتى الآن لم يصل المبلغ إلى حسابي. هل يمكنكم التأكد من وصول الطرد؟</p>
<p>مع الشكر،<br>ليلى حداد</p></div>
""",
    ),
    replies=("شكرا جزيلا، سأنتظر حتى يوم الأحد.",),
)


def _french(sheet: Sheet) -> bytes:
    message = text_part(
        """
Bonjour Nina,

merci pour votre réponse. J'ajoute mes précisions ci-dessous.

Le mar. 28 avr. 2026 à 16:42, Nina du service client <support@desk.test> a écrit :
> Bonjour Camille,
>
> pouvez-vous nous dire de quelle couleur est le fauteuil reçu ?

Il est vert foncé, alors que j'avais commandé le bleu canard.

> Et l'étiquette sous l'assise, porte-t-elle le numéro 48140 ?

Oui, c'est bien ce numéro. L'étiquette dit pourtant « bleu », c'est à n'y rien comprendre !

> Nous organiserons ensuite l'enlèvement.
> Bien cordialement,
> Nina

Pour l'enlèvement, je suis là le mercredi toute la journée.

Cordialement,
Camille Lefèvre
""",
        "plain",
        charset="iso-8859-15",
    )
    message["In-Reply-To"] = "<old.48140.1@desk.test>"
    message["References"] = "<first.48140@mail.customer.test> <old.48140.1@desk.test>"
    return finished(message, sheet, "Re: Fauteuil livré dans la mauvaise couleur", "iso-8859-15")


FRENCH: Final = Scene(
    name="french-answers-between-quotes",
    person="Camille Lefèvre",
    address="camille.lefevre@customer.test",
    build=_french,
    replies=("C'est parfait pour mercredi. Faut-il que je remette la housse d'origine ?",),
)


def _outlook(sheet: Sheet) -> bytes:
    html = """<html xmlns:v="urn:schemas-microsoft-com:vml" xmlns:o="urn:schemas-microsoft-com:office:office"
xmlns:w="urn:schemas-microsoft-com:office:word" xmlns="http://www.w3.org/TR/REC-html40"><head>
<meta name="Generator" content="Microsoft Word 15 (filtered medium)">
<!--[if !mso]><style>v\\:* {behavior:url(#default#VML);}</style><![endif]-->
<style><!-- p.MsoNormal {margin:0cm; font-size:11.0pt; font-family:"Calibri",sans-serif;} --></style></head>
<body lang="EN-GB" link="#0563C1"><div class="WordSection1">
<p class="MsoNormal">Hi,<o:p></o:p></p><p class="MsoNormal"><o:p>&nbsp;</o:p></p>
<p class="MsoNormal">the side table from order 48231 came with a long scratch across the top, see below. The box itself
was fine, so I think it left you like that.<o:p></o:p></p><p class="MsoNormal"><o:p>&nbsp;</o:p></p>
<p class="MsoNormal"><img width="320" height="240" id="Picture_x0020_1" src="cid:image001.png@01DADC0A.5B2E4F10"
alt="scratch"><o:p></o:p></p><p class="MsoNormal"><o:p>&nbsp;</o:p></p>
<p class="MsoNormal">I would rather keep it and get some money back than send it all the way.<o:p></o:p></p>
<p class="MsoNormal">Gareth<o:p></o:p></p></div></body></html>
"""
    text = """
Hi,

the side table from order 48231 came with a long scratch across the top, see below. The box
itself was fine, so I think it left you like that.

[cid:image001.png@01DADC0A.5B2E4F10]

I would rather keep it and get some money back than send it all the way.

Gareth
"""
    alternative = MIMEMultipart("alternative", boundary=boundary(sheet, "001"))
    alternative.attach(text_part(text, "plain", charset="us-ascii"))
    alternative.attach(text_part(html, "html", charset="us-ascii"))
    picture = MIMEImage(_PICTURE, "png", name="image001.png")
    picture["Content-ID"] = "<image001.png@01DADC0A.5B2E4F10>"
    picture["Content-Disposition"] = 'inline; filename="image001.png"'
    message = MIMEMultipart("related", boundary=boundary(sheet, "000"))
    message.attach(alternative)
    message.attach(picture)
    message["Thread-Topic"] = "Scratched side table"
    message["Thread-Index"] = "AdrcClsuTxDk4w2kR3yfB0sR0oZ2Zw=="
    return finished(message, sheet, "Scratched side table", mailer="Microsoft Outlook 16.0")


OUTLOOK: Final = Scene(
    name="outlook-inline-picture",
    person="Gareth Pugh",
    address="gareth.pugh@customer.test",
    build=_outlook,
    follow_up="Sorry, forgot to say: a fifth off would be fine with me.",
    replies=("Thanks, that works for me. Please send it to the card that I paid with.",),
)


def _with_pdf(sheet: Sheet) -> bytes:
    message = MIMEMultipart("mixed", boundary=boundary(sheet, "mixed"))
    text = """
Hello,

attached is our signed return form for order 48188 (two of the four lampshades, wrong
diameter). Our own reference is PO-7731, please put it on the credit note.

When can somebody collect the parcel? Our goods-in is open from 7 to 15 o'clock.

Best regards
Priya Raman
Purchasing, Kestrel Interiors
"""
    message.attach(text_part(text, "plain"))
    message.attach(file_part(_pdf("Return form - order 48188 - two lampshades"), "application/pdf", "return form.pdf"))
    return finished(message, sheet, "Return form for order 48188 (our PO-7731)")


def _pdf(words: str) -> bytes:
    """Return a one-page PDF 1.4 that says ``words``."""
    stream = f"BT /F1 18 Tf 60 760 Td ({words}) Tj ET".encode("ascii")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    trailer = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n%b" % (size, table) + trailer


WITH_PDF: Final = Scene(
    name="pdf-attached",
    person="Priya Raman",
    address="priya.raman@kestrel.test",
    build=_with_pdf,
    replies=("Thank you. Tomorrow before noon suits us best, ramp 3.",),
)


def _with_winmail(sheet: Sheet) -> bytes:
    message = MIMEMultipart("mixed", boundary=boundary(sheet, "tnef"))
    text = """
Hello,

please find the measurements of the shelf in the attached file. My colleagues say that they
cannot open what I send, so tell me if you cannot either.

Walter Nyström
"""
    message.attach(text_part(text, "plain", charset="iso-8859-1"))
    inside = b"height 1820 mm\r\nwidth 900 mm\r\ndepth 310 mm\r\n"
    message.attach(file_part(_tnef("measures.txt", inside), "application/ms-tnef", "winmail.dat"))
    return finished(message, sheet, "Measurements of the shelf", mailer="Microsoft Outlook 14.0")


def _tnef(name: str, content: bytes) -> bytes:
    """Return a TNEF stream (MS-OXTNEF section 2.1) that holds one file."""
    rendering = struct.pack("<HLHHL", 1, 0xFFFFFFFF, 0, 0, 0)
    attributes = [
        (1, 0x00089006, struct.pack("<L", 0x00010000)),  # TNEF version
        (1, 0x00069007, struct.pack("<LL", 1252, 0)),  # code page
        (1, 0x00078008, b"IPM.Microsoft Mail.Note\0"),  # message class
        (2, 0x00069002, rendering),
        (2, 0x00018010, name.encode("ascii") + b"\0"),  # title of the file
        (2, 0x0006800F, content),
    ]
    out = struct.pack("<LH", 0x223E9F78, 1)
    for level, kind, value in attributes:
        out += struct.pack("<BLL", level, kind, len(value)) + value + struct.pack("<H", sum(value) & 0xFFFF)
    return out


WITH_WINMAIL: Final = Scene(
    name="winmail-dat",
    person="Walter Nyström",
    address="walter@nystrom.test",
    build=_with_winmail,
    replies=("Oh dear, winmail again. Height 1820, width 900, depth 310, all in millimetres.",),
)

_ITEMS: Final = ("mug, grey", "tea towel, set of two", "candle holder", "serving board, oak", "vase, small", "coaster")


def _long_list() -> str:
    lines = [
        f"{number:>4}. order {47000 + number * 7}: {1 + number % 5} x {_ITEMS[number % len(_ITEMS)]}, "
        f"{'delivered' if number % 9 else 'NOT delivered'}, {'paid' if number % 13 else 'paid twice'}"
        for number in range(1, 701)
    ]
    return "\n".join(lines)


LONG: Final = Scene(
    name="very-long",
    person="Henrike Vos",
    address="henrike.vos@example.test",
    build=text_mail(
        "Complete list of our orders since January",
        f"""
Dear team,

as agreed on the phone I went through everything that our seven shops ordered from you since
January. Where it says NOT delivered we never saw the goods, where it says paid twice your
bank statement and ours differ. It became rather long, I am sorry.

{_long_list()}

Please check at least the ones that were not delivered before the end of the month. Our
accountant closes the books on the last working day.

Kind regards
Henrike Vos
""",
    ),
    follow_up="A small correction to my long list: numbers 27 and 54 did arrive, they were in the cellar.",
    replies=("Thank you for looking into it. Shall I send the list as a table as well?",),
)
