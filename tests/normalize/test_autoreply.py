"""Which mail a machine wrote and whom no machine may answer (RFC 3834)."""

from __future__ import annotations

import pytest

from gateway.normalize import autoreply
from gateway.normalize.headers import Head, read_head
from gateway.normalize.values import Address, Automatic

JANE = Address(name="Jane", address="jane@customer.test")


def head(fields: str) -> Head:
    return read_head(f"From: jane@customer.test\n{fields}\n\n".encode())[0]


def judge(fields: str, subject: str = "Order", sender: Address | None = JANE) -> Automatic:
    return autoreply.judge(head(fields), sender=sender, subject=subject, is_report=False)


@pytest.mark.proves("R2.4", "T-B01")
@pytest.mark.parametrize(
    "fields",
    [
        "Auto-Submitted: auto-replied",
        "Auto-Submitted: auto-generated (vacation)",
        "Auto-Submitted: auto-notified; owner-email=x",
        "AUTO-SUBMITTED: Auto-Replied",
        "X-Autoreply: yes",
        "X-Autorespond: vacation",
        "X-Autoresponder: yes",
        "X-FC-MachineGenerated: true",
        "Precedence: auto_reply",
        "Delivered-To: Autoresponder",
        "Content-Type: multipart/report; report-type=delivery-status",
    ],
)
def test_machine_is_recognised_and_not_answered(fields: str) -> None:
    told = judge(fields)
    assert told.is_automatic
    assert not told.may_answer
    assert told.reason


@pytest.mark.proves("R2.4", "T-B01")
@pytest.mark.parametrize(
    "fields",
    [
        "Return-Path: <>",
        "Precedence: bulk",
        "Precedence: list",
        "Precedence: junk",
        "X-Auto-Response-Suppress: All",
        "X-Auto-Response-Suppress: OOF, AutoReply",
        "List-Id: <talk.customer.test>",
        "List-Unsubscribe: <https://customer.test/u>",
        "List-Post: <mailto:talk@customer.test>",
        "Feedback-ID: 1:2:3:mailer",
        "X-Spam-Flag: YES",
    ],
)
def test_person_behind_a_barrier_is_not_automatic_but_not_answered(fields: str) -> None:
    told = judge(fields)
    assert not told.is_automatic
    assert not told.may_answer
    assert told.reason


@pytest.mark.proves("R2.4", "T-B01")
@pytest.mark.parametrize(
    "address",
    [
        *(
            "noreply@x.test",
            "no-reply@x.test",
            "No_Reply@x.test",
            "donotreply@x.test",
            "do-not-reply@x.test",
            "noreply-77@x.test",
        ),
        *(
            "news-noreply@x.test",
            "nepasrepondre@x.test",
            "nao-responda@x.test",
            "noresponder@x.test",
            "mailer-daemon@x.test",
        ),
        *(
            "MAILER-DAEMON@x.test",
            "postmaster@x.test",
            "bounce+1@x.test",
            "owner-list@x.test",
            "list-request@x.test",
            "@x.test",
        ),
    ],
)
def test_sender_that_reads_no_answers_gets_none(address: str) -> None:
    assert not judge("Subject: x", sender=Address(address=address)).may_answer


@pytest.mark.proves("R2.4")
@pytest.mark.parametrize(
    "address", ["jane@x.test", "norbert@x.test", "reply@x.test", "nora.plyer@x.test", "support@x.test"]
)
def test_ordinary_sender_may_be_answered(address: str) -> None:
    assert judge("Subject: x", sender=Address(address=address)) == Automatic()


@pytest.mark.proves("R2.4", "T-B01")
def test_mail_without_a_sender_or_with_a_report_is_not_answered() -> None:
    assert not judge("Subject: x", sender=None).may_answer
    told = autoreply.judge(head("Subject: x"), sender=JANE, subject="x", is_report=True)
    assert (told.is_automatic, told.may_answer) == (True, False)


@pytest.mark.proves("R2.4")
@pytest.mark.parametrize(
    "fields", ["Auto-Submitted: no", "X-Autoreply: no", "X-Auto-Response-Suppress: None", "Precedence: normal"]
)
def test_denial_is_no_sign(fields: str) -> None:
    assert judge(fields) == Automatic()


SUBJECTS = {
    "en": "Automatic reply: Order",
    "en 2": "Out of Office",
    "en 3": "Out of Office Re: Order",
    "en 4": "Re: Out of office: back on Monday",
    "en 5": "Auto-Reply: thanks",
    "de": "Automatische Antwort: Bestellung",
    "de 2": "Abwesenheitsnotiz: Bestellung",
    "fr": "Réponse automatique : Commande",
    "es": "Respuesta automática: Pedido",
    "it": "Risposta automatica: Ordine",
    "pt": "Resposta automática: Pedido",
    "nl": "Automatisch antwoord: Bestelling",
    "sv": "Autosvar: Beställning",
    "sv 2": "Automatiskt svar: Beställning",
    "da": "Automatisk svar: Bestilling",
    "fi": "Automaattinen vastaus: Tilaus",
    "pl": "Automatyczna odpowiedź: Zamówienie",
    "cs": "Automatická odpověď: Objednávka",
    "sk": "Automatická odpoveď: Objednávka",
    "hu": "Automatikus válasz: Rendelés",
    "ro": "Răspuns automat: Comandă",
    "bg": "Автоматичен отговор: Поръчка",
    "ru": "Автоматический ответ: Заказ",
    "uk": "Автоматична відповідь: Замовлення",
    "lt": "Automatinis atsakymas: Užsakymas",
    "lv": "Automātiska atbilde: Pasūtījums",
    "et": "Automaatvastus: Tellimus",
    "sl": "Samodejni odgovor: Naročilo",
    "hr": "Automatski odgovor: Narudžba",
    "el": "Αυτόματη απάντηση: Παραγγελία",
    "tr": "Otomatik yanıt: Sipariş",
    "zh": "自动答复: 订单",
    "zh tw": "自動回覆：訂單",
    "ja": "自動応答: 注文",
    "ko": "자동 회신: 주문",
    "vi": "Trả lời tự động: Đơn hàng",
    "th": "การตอบกลับอัตโนมัติ: คำสั่งซื้อ",
    "he": "תשובה אוטומטית: הזמנה",
    "ar": "رد تلقائي: طلب",
    "id": "Balasan otomatis: Pesanan",
}


@pytest.mark.proves("R2.4", "T-B01")
@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS.keys())
def test_subject_of_an_automatic_reply_is_enough(subject: str) -> None:
    told = judge("Subject: x", subject=subject)
    assert told.is_automatic
    assert not told.may_answer
    assert autoreply.is_reply_like(head("Subject: x"), subject)


@pytest.mark.proves("R2.4")
@pytest.mark.parametrize(
    "subject",
    [
        "Out of office chairs we have questions",
        "Question about automatic replies",
        "My automatic door does not close",
        "Vacation rental in May",
        "Absence of a part in my parcel",
        "Urlaub buchen",
        "Re: your ticket",
        "",
    ],
)
def test_subject_that_a_person_writes_is_not_enough(subject: str) -> None:
    assert judge("Subject: x", subject=subject) == Automatic()


@pytest.mark.proves("R2.4", "T-B01")
def test_weak_subject_counts_beside_another_sign() -> None:
    assert judge("Return-Path: <>", subject="Vacation until Monday").is_automatic
    assert judge("Precedence: bulk\nIn-Reply-To: <a@b>", subject="We have received your message").is_automatic
    assert not judge("Precedence: bulk", subject="Vacation offers").is_automatic


@pytest.mark.proves("R2.4")
@pytest.mark.parametrize(
    ("fields", "subject", "is_answer"),
    [
        ("Auto-Submitted: auto-replied", "Thanks", True),
        ("X-Autoreply: yes", "Thanks", True),
        ("Precedence: auto_reply", "Thanks", True),
        ("Auto-Submitted: auto-generated\nIn-Reply-To: <a@b>", "We have received your request", True),
        ("Auto-Submitted: auto-generated", "Your parcel is on its way", False),
        ("Auto-Submitted: auto-generated\nIn-Reply-To: <a@b>", "Disk 1 fails", False),
        ("Auto-Submitted: auto-notified", "Build failed", False),
        ("X-FC-MachineGenerated: true", "Invoice 77", False),
    ],
)
def test_answers_are_told_from_notices(fields: str, subject: str, is_answer: bool) -> None:
    assert autoreply.is_reply_like(head(fields), subject) is is_answer
