"""Mails for the benchmarks: the same for the product and for the bare loop that it is measured against.

Mixed 3 to 30 kB of text and HTML, legacy charsets, two in five are replies, one in ten has a 200 kB attachment.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from email.charset import QP, Charset
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

WORDS = {
    "utf-8": "order parcel invoice delivery address please thank you when where return broken colour size the a of",
    "iso-8859-1": "Bestellung Paket Rechnung Lieferung Adresse bitte danke schön wann zurück größe möchte für über",
    "iso-8859-2": "naročilo paket račun dostava naslov prosim hvala kdaj vračilo zlomljeno želim še če člen",
    "windows-1251": "поръчка пакет фактура доставка адрес моля благодаря кога връщане счупено искам още ако",
    "iso-8859-13": "užsakymas siunta sąskaita pristatymas adresas prašau ačiū kada grąžinimas noriu dar",
}
ATTACHMENT_BYTES = 200_000


def mails(count: int, *, seed: int = 7) -> Iterator[bytes]:
    """Yield ``count`` mails; replies name earlier ones by their Message-ID and quote something."""
    rng = random.Random(seed)
    noise = rng.randbytes(ATTACHMENT_BYTES)
    for number in range(count):
        yield _mail(rng, number, noise)


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What an agent writes, in the same mix."""

    text: str
    html: str | None
    attachment: bytes | None


def answers(count: int, *, seed: int = 7) -> Iterator[Written]:
    rng = random.Random(seed)
    noise = rng.randbytes(ATTACHMENT_BYTES)
    for number in range(count):
        with_html = rng.random() < 0.6
        words = WORDS[rng.choice(list(WORDS))].split()
        paragraphs = _paragraphs(rng, words, rng.randint(3_000, 30_000) // (3 if with_html else 1))
        html = "".join(f"<p>{item} <b>{item[:12]}</b></p>" for item in paragraphs) if with_html else None
        attachment = noise[: -1 - number % 1000] if number % 10 == 9 else None
        yield Written(text="\n\n".join(paragraphs), html=html, attachment=attachment)


def _mail(rng: random.Random, number: int, noise: bytes) -> bytes:
    charset = rng.choice(list(WORDS))
    size = rng.randint(3_000, 30_000)
    is_reply = number > 10 and rng.random() < 0.4
    parent = rng.randrange(max(0, number - 500), number) if is_reply else None
    person = parent % 5000 if parent is not None else number % 5000
    with_html = rng.random() < 0.6
    paragraphs = _paragraphs(rng, WORDS[charset].split(), size // (3 if with_html else 1))
    text = "\n\n".join(paragraphs)
    if parent is not None:
        quoted = "\n".join("> " + line for line in paragraphs[0].splitlines())
        text += f"\n\nOn Mon, 2 Mar 2026 at 10:00, Support <support@desk.test> wrote:\n{quoted}\n"
    body = _body(text, paragraphs, charset, with_html=with_html)
    if number % 10 == 9:
        outer = MIMEMultipart("mixed")
        outer.attach(body)
        content = MIMEApplication(noise[: ATTACHMENT_BYTES - number % 1000] + str(number).encode(), "pdf")
        content.add_header("Content-Disposition", "attachment", filename=f"scan-{number}.pdf")
        outer.attach(content)
        body = outer
    body["From"] = f"Customer {person} <customer{person}@customer.test>"
    body["To"] = "support@desk.test"
    body["Subject"] = f"{'Re: ' if parent is not None else ''}{paragraphs[0][:40]}"
    body["Date"] = "Mon, 2 Mar 2026 10:00:00 +0000"
    body["Message-ID"] = f"<m{number}@customer.test>"
    if parent is not None:
        body["In-Reply-To"] = f"<m{parent}@customer.test>"
        body["References"] = f"<m{max(0, parent - 3)}@customer.test> <m{parent}@customer.test>"
    received = "".join(
        f"Received: from mx{hop}.customer.test by mx{hop + 1}.desk.test; Mon, 2 Mar 2026 10:00:0{hop} +0000\r\n"
        for hop in range(4)
    )
    return received.encode() + body.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _body(text: str, paragraphs: list[str], charset: str, *, with_html: bool) -> MIMEMultipart | MIMEText:
    encoding = Charset(charset)
    encoding.body_encoding = QP
    plain = MIMEText(text, "plain", encoding)  # type: ignore[arg-type]
    if not with_html:
        return plain
    shown = "".join(f'<p style="margin:0 0 8px">{item} <b>{item[:12]}</b></p>' for item in paragraphs)
    html = f'<html><body><div dir="ltr">{shown}<a href="https://customer.test/o">link</a></div></body></html>'
    both = MIMEMultipart("alternative")
    both.attach(plain)
    both.attach(MIMEText(html, "html", encoding))  # type: ignore[arg-type]
    return both


def _paragraphs(rng: random.Random, words: list[str], chars: int) -> list[str]:
    found: list[str] = []
    total = 0
    while total < chars:
        line = " ".join(rng.choices(words, k=rng.randint(6, 60)))
        found.append(line)
        total += len(line) + 2
    return found


def sizes(items: list[bytes]) -> str:
    """A word on the mix, for the reader of the figures."""
    return f"{len(items)} mails, {sum(map(len, items)) / len(items) / 1000:.1f} kB on average"
