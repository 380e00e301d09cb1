"""How the subjects of automatic replies begin, in the languages of the usual mail programs, and how they may sound.

Phrases are compared without case and accents: much of this is written by robots that know no accents.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

MAX_SUBJECT_CHARS: Final = 300


def phrases(text: str) -> tuple[str, ...]:
    """Return the phrases of a table: one or more a line, parted by commas."""
    return tuple(phrase.strip() for line in text.strip().splitlines() for phrase in line.split(", "))


def fold(text: str) -> str:
    """Return the text without case and accents."""
    return "".join(char for char in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(char))


def _folded(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(fold(phrase) for phrase in phrases(text)))


#: How Exchange, Outlook, Gmail and others begin the subject of an automatic reply. Nobody writes that by hand.
PREFIXES: Final = _folded("""
automatic reply, automatic response, auto reply, auto-reply, autoreply, auto response, auto-response
autoresponse, autoresponder, auto responder, out of office, out of the office, out-of-office, ooo:, ooo -
automatic out of office, away from office, on vacation, vacation reply, vacation response
i am out of the office, automatische antwort, automatische beantwortung, abwesenheitsnotiz
abwesenheitsnachricht, abwesenheits, abwesenheit:, abwesend:, autom. antwort, auto-antwort, außer haus
ich bin nicht im büro, réponse automatique, reponse automatique, message automatique d'absence
absence du bureau, absent du bureau, message d'absence, notification d'absence, réponse auto, absent(e)
respuesta automática, respuesta automatica, fuera de la oficina, fuera de oficina, ausente de la oficina
autorespuesta, risposta automatica, fuori sede, fuori ufficio, assenza dall'ufficio, risponditore automatico
assente dall'ufficio, resposta automática, resposta automatica, fora do escritório, ausência temporária
ausência do escritório, automatisch antwoord, automatische reactie, afwezigheidsbericht, niet aanwezig, afwezig:
afwezigheidsmelding, autosvar, automatiskt svar, frånvaromeddelande, frånvaro:, ej på kontoret, automatisk svar
automatiskt meddelande, ikke til stede, fraværsmelding, fravær:, fraværsbesked, ikke på kontoret, fraværende
automaattinen vastaus, poissaoloilmoitus, poissa toimistosta, en ole paikalla, poissa:, automatyczna odpowiedź
autoodpowiedź, odpowiedź automatyczna, poza biurem, nieobecność w biurze, nieobecność:, automatická odpověď
automatická odpoveď, mimo kancelář, mimo kancelárie, nepřítomnost, nejsem v kanceláři, neprítomnosť
automatikus válasz, házon kívül, irodán kívül, távolléti, răspuns automat, raspuns automat, în afara biroului
mesaj automat, автоматичен отговор, извън офиса, автоматический ответ, автоответ, автоматична відповідь
автовідповідь, отсутствие на рабочем месте, вне офиса, нет на месте, поза офісом, automatinis atsakymas
automatinis atsakas, ne darbe, nesu biure, automātiska atbilde, automātiskā atbilde, prombūtn, automaatvastus
kontorist väljas, automaatne vastus, samodejni odgovor, samodejno odgovor, odsotnost, automatski odgovor
automatsko odgovaranje, izvan ureda, van kancelarije, аутоматски одговор, αυτόματη απάντηση, εκτός γραφείου
otomatik yanıt, otomatik cevap, ofis dışında, 自动答复, 自动回复, 自動回覆, 自動回應, 外出, 不在办公室, 自動応答
自動返信, 不在通知, 外出中, 자동 회신, 자동 응답, 자동응답, 자동회신, 부재중, 부재 중, trả lời tự động
thư trả lời tự động, vắng mặt, การตอบกลับอัตโนมัติ, ตอบกลับอัตโนมัติ, ไม่อยู่ที่สำนักงาน, תשובה אוטומטית
מענה אוטומטי, מחוץ למשרד, رد تلقائي, الرد التلقائي, خارج المكتب, balasan otomatis, jawaban otomatis
di luar kantor, resposta automàtica, fora de l'oficina, sjálfvirkt svar, erantzun automatikoa
out of office reply, automated reply, automated response, auto-responder, autoreply from, auto-reply from
i'm out of the office, i am on leave, i am on vacation, i'm on vacation, on annual leave, on maternity leave
automatische nachricht, automatische abwesenheit, ich bin im urlaub, ich bin außer haus, abwesenheitsassistent
réponse d'absence, je suis absent, je suis en congé, en congés, contestación automática, respuesta automatizada
estoy fuera de la oficina, sono fuori ufficio, risposta automatizzata, estou ausente, mensagem automática
automatisch bericht, ik ben afwezig, automatski svar, autovastaus, autom. vastaus, automata válasz
automatyczna wiadomość, przebywam na urlopie, jestem na urlopie, jsem na dovolené, som na dovolenke
szabadságon vagyok, sunt în concediu, автоматичний відповідь, аўтаматычны адказ, автоматски одговор
автоматты жауап, автоматты түрде жауап, автоматическое сообщение, я в отпуске, я у відпустці, në pushim
përgjigje automatike, avtomatik cavab, avtomatik javob, ավտոմատ պատասխան, ავტომატური პასუხი, outomatiese antwoord
ārpus biroja atrašanās automātiska atbilde
ārpus biroja, prombūtnes, atvaļinājum, atostogos, puhkusel, jibu la moja kwa moja, ateb awtomatig, atgàirleag
freagra uathoibríoch, balasan automatik, di luar pejabat, awtomatikong tugon, स्वचालित उत्तर, স্বয়ংক্রিয় উত্তর
தானியங்கி பதில், స్వయంచాలక ప్రత్యుత్తరం, پاسخ خودکار, خودکار جواب, 自动应答, 自動回信, 休假通知, 不在のお知らせ, 休暇のお知らせ
休暇中, 외근 중, 휴가 중, đi vắng, đang nghỉ phép, นอกสำนักงาน, בחופשה, מענה אוטומטי, خارج المكتب
""")
_WEAK_WORDS: Final = _folded("""
auto:, automatic, automatisch, automatique, automátic, automatica, abwesen, absence, absent, ausente, ausencia
assenza, afwezig, frånvar, fravær, poissa, nieobecn, nepřítom, távollét, отпуск, отсутств, vacation, holiday
urlaub, congés, vacaciones, ferie, férias, vakantie, semester, loma, urlop, dovolená, szabadság, izin, άδεια
休暇, 休假, 휴가, received your, we have received, your request, ticket, empfangsbestätigung
eingangsbestätigung, accusé de réception, acuse de recibo, confirmation, out of, away, on leave, maternity
parental leave, elternzeit, retired, no longer with, left the company
thank you for, thanks for, danke für, vielen dank, merci de, merci pour, gracias por, grazie per, obrigado por
obrigada por, bedankt voor, tack för, takk for, tak for, kiitos, dziękuj, děkuj, ďakuj, köszönj, mulțumi, спасибо за
дякуємо, ευχαριστ, teşekkür, ありがとうございます, 感谢, 감사, cảm ơn, terima kasih, atvaļināj, atostog, puhkus, dopust
godišnji odmor, concediu, відпуст, cuti, nghỉ phép, إجازة, חופש, on holiday, on leave, not in the office
nicht im haus, nicht im büro, confirmación, conferma di, bestätigung, potvrzen, potwierdzen, подтвержден, 受付, 受け付け
""")
#: What may follow such a beginning. Else somebody asks about "out of office chairs".
AFTER_PREFIX: Final = (
    *("re ", "re:", "from ", "message", "notification", "until ", "bis ", "notiz", "nachricht", "assistant"),
    *("autoreply", "reply", "auto"),
)
#: "AUTO: Jane is out of the office (returning 05/01/2026)" and "Re: Order (Automatic Response)".
_SIGNED: Final = re.compile(
    r"(?:office|absen\w{1,6}|abwesen\w{1,5}|buro|haus|oficina|ufficio|sede|away|leave|vacation|kontor\w{0,3}|kantoor)"
    r"[^()]{0,40}\((?:returning|return|back|ruckkehr|zuruck|retour|regres\w{0,4}|volver\w{0,3}|rientro|terug|tillbaka)\b"
    r"|[(\[](?:automatic (?:reply|response)|auto[- ]?(?:reply|response)|out of (?:the )?office|automatische antwort|"
    r"reponse automatique|respuesta automatica|risposta automatica)[)\]]\W{0,3}$"
    r"|^[^?]{0,80}\b(?:is|i am|i'm) (?:currently |now )?(?:out of|away from) (?:the |my )?office\b[^?]*$"
)
_ASCII_WEAK: Final = re.compile(
    r"(?<![a-z0-9])(?:" + "|".join(re.escape(word) for word in _WEAK_WORDS if word.isascii()) + ")"
)
_OTHER_WEAK: Final = tuple(word for word in _WEAK_WORDS if not word.isascii())


def is_signed(folded: str) -> bool:
    """Whether a folded subject carries the remark that only robots make."""
    return _SIGNED.search(folded) is not None


def has_weak_word(subject: str) -> bool:
    """Whether the subject sounds like an automatic reply; a person's may as well."""
    folded = fold(subject[:MAX_SUBJECT_CHARS])
    return _ASCII_WEAK.search(folded) is not None or any(word in folded for word in _OTHER_WEAK)
