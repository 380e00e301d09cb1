"""The play: who writes when, who reads, who answers; the same seed gives the same play."""

from __future__ import annotations

import email
import email.policy
import random
from datetime import UTC, datetime, timedelta

import pytest

from gateway.normalize import headers
from gateway.sandbox.customers import play
from gateway.sandbox.mail_server import MailSandbox
from gateway.sandbox.mails.scene import Scene, Sheet
from gateway.sandbox.reports import Stamp
from gateway.sandbox.scripts import AT_THE_START, SCENES
from tests.sandbox.conftest import inbox, open_sandbox

NO_DELAY = timedelta(0)


def built(scene: Scene) -> bytes:
    stamp = Stamp(at=datetime(2026, 5, 4, 9, 30, tzinfo=UTC), token="5ca1ab1e")
    return scene.build(Sheet(name=scene.person, address=scene.address, to=scene.to, stamp=stamp))


def scene_named(name: str) -> Scene:
    return next(scene for scene in SCENES if scene.name == name)


def second_part(name: str) -> bytes:
    """Return the decoded second part of the scripted mail ``name``."""
    leaves = [part for part in email.message_from_bytes(built(scene_named(name))).walk() if not part.is_multipart()]
    payload = leaves[1].get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


async def desk_mails(sandbox: MailSandbox) -> list[bytes]:
    return await inbox(sandbox) + await inbox(sandbox, "sales@desk.test")


async def test_first_six_are_there_at_once_and_the_rest_comes_one_by_one(sandbox: MailSandbox) -> None:
    await play(sandbox, start_delay=NO_DELAY, gap=timedelta(seconds=20), rng=random.Random(1))
    await sandbox.advance(0)
    assert len(await desk_mails(sandbox)) == AT_THE_START
    await sandbox.advance(25.1)
    assert len(await desk_mails(sandbox)) == AT_THE_START + 1
    await sandbox.advance(20 * 60)
    mails = await desk_mails(sandbox)
    afterthoughts = [raw for raw in mails if b"User-Agent: Parchment" in raw]
    assert len(mails) == len(SCENES) + len(afterthoughts)
    assert 0 < len(afterthoughts) <= sum(bool(scene.follow_up) for scene in SCENES)


async def test_same_seed_gives_the_same_play() -> None:
    plays = []
    for _ in range(2):
        async with open_sandbox() as sandbox:
            await play(sandbox, start_delay=NO_DELAY, rng=random.Random(3))
            await sandbox.advance(900)
            plays.append(await desk_mails(sandbox))
    assert plays[0] == plays[1]


async def answer_from_the_desk(sandbox: MailSandbox, to: str, number: int, extra: str = "") -> None:
    raw = (
        f"From: Nina <support@desk.test>\r\nTo: {to}\r\nReply-To: support+tok{number}@desk.test\r\n{extra}"
        f"Subject: Re: your order\r\nMessage-ID: <d{number}@desk.test>\r\n\r\nWe look into it.\r\n"
    ).encode()
    await sandbox.deliver(raw, f"support+b{number}@desk.test", [to])


async def test_customer_answers_each_answer_until_nothing_is_left_to_say(sandbox: MailSandbox) -> None:
    scene = next(scene for scene in SCENES if len(scene.replies) == 2 and scene.to == "support@desk.test")
    await play(sandbox, start_delay=timedelta(days=1), rng=random.Random(1))
    for number in range(3):
        await answer_from_the_desk(sandbox, scene.address, number)
        await sandbox.advance(9.9)
        assert len(await inbox(sandbox)) == min(number, 2)
        await sandbox.advance(10.1)
    answers = [email.message_from_bytes(raw, policy=email.policy.default) for raw in await inbox(sandbox)]
    assert [mail["In-Reply-To"] for mail in answers] == ["<d0@desk.test>", "<d1@desk.test>"]
    assert [mail["Delivered-To"] for mail in answers] == ["support+tok0@desk.test", "support+tok1@desk.test"]
    for mail, said in zip(answers, scene.replies, strict=True):
        assert mail.get_content().startswith(said)
        assert "> We look into it." in mail.get_content()


async def test_customer_does_not_answer_a_machine(sandbox: MailSandbox) -> None:
    await play(sandbox, start_delay=timedelta(days=1), rng=random.Random(1))
    await answer_from_the_desk(sandbox, SCENES[0].address, 1, "Auto-Submitted: auto-replied\r\n")
    await sandbox.advance(100)
    assert await desk_mails(sandbox) == []


async def test_afterthought_is_dropped_once_the_desk_has_answered(sandbox: MailSandbox) -> None:
    await play(sandbox, start_delay=NO_DELAY, gap=timedelta(days=1), rng=random.Random(1))
    await sandbox.advance(0)
    for number, scene in enumerate(SCENES[:AT_THE_START]):
        await answer_from_the_desk(sandbox, scene.address, number)
    await sandbox.advance(600)
    said = [scene.follow_up for scene in SCENES[:AT_THE_START] if scene.follow_up]
    mails = b"".join(await desk_mails(sandbox))
    assert said
    assert not any(text.encode()[:30] in mails for text in said)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_scripted_mail_is_a_mail_that_names_its_writer(scene: Scene) -> None:
    raw = built(scene)
    head, _, _ = headers.read_head(raw)
    assert raw.count(b"\n") == raw.count(b"\r\n")
    assert max(len(line) for line in raw.splitlines()) <= 998
    assert scene.address in (head.first("from") or "")
    assert scene.person in (head.first("from") or "") or scene.name == "broken-charset"
    assert head.first("subject")
    assert head.first("message-id") == f"<5ca1ab1e@mail.{scene.address.partition('@')[2]}>"


CHARSETS = [
    ("bulgarian-windows-1251", "windows-1251", "дръжката"),
    ("bulgarian-koi8-r", "koi8-r", "фактура"),
    ("lithuanian-windows-1257", "windows-1257", "gimtadienis – šį šeštadienį"),
    ("slovenian-iso-8859-2", "iso-8859-2", "predpražnik"),
    ("hungarian-iso-8859-2-base64", "iso-8859-2", "kétszer"),
    ("japanese-iso-2022-jp", "iso-2022-jp", "引っ越し"),
    ("chinese-gb18030", "gb18030", "网页上写的是“附带当地插头”"),
]


@pytest.mark.parametrize(("name", "label", "words"), CHARSETS)
def test_scripted_mail_is_written_in_its_charset(name: str, label: str, words: str) -> None:
    message = email.message_from_bytes(built(scene_named(name)))
    payload = message.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert message.get_content_charset() == label
    assert words in payload.decode(label)
    assert words.isascii() or words.encode() not in payload


def test_cast_names_each_scene_and_address_once() -> None:
    assert len({scene.name for scene in SCENES}) == len(SCENES)
    assert len({scene.address for scene in SCENES}) == len(SCENES)


def test_hostile_mail_holds_what_a_sanitiser_must_stop() -> None:
    text = second_part("hostile-html").decode()
    dangers = ["<script", "<svg onload", "javascript:", "pixel.gif", "position:fixed", "<form", "refresh", "<iframe"]
    assert [danger for danger in dangers if danger not in text] == []


def test_attached_pdf_points_to_its_own_objects() -> None:
    pdf = second_part("pdf-attached")
    start = int(pdf.split(b"startxref\n")[1].split(b"\n")[0])
    rows = pdf[start:].split(b"\n")[3:8]
    assert [pdf[int(row[:10]) :][:7] for row in rows] == [b"%d 0 obj" % number for number in range(1, 6)]
