"""Bounces without an RFC 3464 part: qmail, Exim, Sendmail, Exchange, Notes, Yahoo, web.de and other dialects.

A bounce needs two kinds of signs: that a machine sent it (null return path, MAILER-DAEMON, Auto-Submitted …) and
that it speaks of a failed delivery. So a person who writes about an undeliverable parcel stays a person. First our
own reading of the notice, line by line; then the scanners of flufl.bounce on a bounded piece of it. Linear time.
"""

from __future__ import annotations

import re
from email.message import Message
from email.utils import getaddresses
from typing import Final

from flufl.bounce import all_failures

from gateway.normalize import autoreply, bounce_reasons
from gateway.normalize.headers import Head
from gateway.normalize.values import Bounce, BouncedRecipient

MAX_DIAGNOSTIC_CHARS: Final = 2000
MAX_NOTICE_CHARS: Final = 30_000
MAX_NOTICE_LINES: Final = 600
MAX_LINE_CHARS: Final = 1000
MAX_RECIPIENTS: Final = 100
_SCANNER_CHARS: Final = 8_000
_NOBODY: Final = "nobody@unknown.invalid"  # a scanner takes it for granted that there is a From

_DAEMONS: Final = re.compile(
    r"^(?:mailer[-_.]?daemon|mail[-_.]?daemon|mdaemon|mail[-_.]?deliver[\w-]*|delivery[-_.]?(?:failure|status|"
    r"notif\w*)|"
    r"microsoftexchange[0-9a-f]+|bounces?[-+_]?[\w.=+-]*|returned?[-_.]?mail|mailsystem|mail[-_]?system|"
    r"mailerdaemon|smtp[-_.]?daemon|exchange[-_.]?admin\w*|system[-_.]?attendant|noreply-mailer-daemon)$"
)
_DAEMON_NAMES: Final = re.compile(
    r"mail delivery (?:sub)?system|mail delivery service|mailer-daemon|mail administrator|mail system|postmaster|"
    r"delivery (?:failure|notification)|mailsystem|internet mail delivery|system administrator|systemadministrator|"
    r"microsoft outlook|mail deliver",
    re.IGNORECASE,
)
_SUBJECT: Final = re.compile(
    r"undeliver(?:able|ed)|returned (?:mail|to sender|e-?mail)|return(?:ed|ing) (?:message|to) |"
    r"failure notice|fail(?:ed|ure).{0,20}deliver|"
    r"deliver\w* (?:has )?(?:failed|failure|problem|error|report|status|notification|unsuccessful|delay|impossible)|"
    r"delivery status notification|non-?deliver|not delivered|could ?n.t be delivered|"
    r"mail (?:delivery )?(?:failure|error|failed)|"
    r"message (?:not|un)\W?deliver|message delay|delayed (?:mail|delivery)|warning: (?:message|"
    r"could not send)|mail could not|"
    r"message you sent|rejected|nondeliverable|permanent (?:delivery )?(?:failure|error)|bounce|"
    r"mail system error|unzustell|nicht zustell|zustellung|"
    r"unzustellbar|non remis|échec|echec|impossible de remettre|non distribu|retour à l.exp|"
    r"notification d.état|no se (?:puede|pudo|ha podido) entregar|no entregad|"
    r"error de entrega|fallo en la entrega|devuelto|notificación del estado|non recapitabil|mancato recapito|"
    r"mancata consegna|notifica (?:dello )?stato|impossibile (?:recapitare|consegnare)|"
    r"não (?:é possível|foi) entreg|não entregue|falha na entrega|notificação de|devolvid|onbestelbaar|"
    r"niet bezorgd|bezorging|afleveringsfout|kan inte levereras|ej levererbar|oleverer|olevererbart|"
    r"ikke leveres|kan ikke leveres|uleverbar|ei voi toimittaa|toimittamaton|perille toimittamaton|"
    r"nie można dostarczyć|niedostarczalna|niedostarczon|nedoručiteľn|nedoručiteln|nedoručen|"
    r"kézbesíthetetlen|nelivrat|imposibil de livrat|недоставлен|не доставлено|недоставлені|"
    r"не удалось доставить|невозможно доставить|недоставено|сбой доставки|teslim edilemedi|"
    r"ανεπίδοτ|δεν παραδόθηκε|nepristatyt|nav piegādā|ei saa kätte toimetada|nedostavlj|isporuka|无法送达|未送达|退信|"
    r"无法投递|無法傳遞|未傳遞|退回|投递失败|配信不能|配達|配信できま|送信できません|未送信|배달되지|전송 실패|배달 실패|"  # noqa: E501 -- one pattern, long or wide
    r"không gửi được|ไม่สามารถส่ง|לא ניתן למסור|תקבל|تعذر التسليم|تعذر|غير قابل للتسليم|tidak terkirim",
    re.IGNORECASE,
)
_NOTICE: Final = re.compile(
    r"qmail-send program|this is the mail (?:system|delivery agent|server)|postfix program|"
    r"automatically (?:generated|created) by|created automatically by mail delivery|"
    r"could not be (?:delivered|sent)|couldn.t be delivered|can(?:no|')t be delivered|(?:was|were|is|"
    r"been) (?:not|un)\s?(?:deliver|able to deliver|able to be delivered)|wasn.t delivered|"
    r"not (?:been )?(?:able to )?deliver|"
    r"un(?:able to|successful).{0,20}deliver|undeliver|delivery (?:has |to .{0,60})?(?:failed|failure|aborted|"
    r"temporarily|delayed|status)|failed to deliver|delivery attempt|deliver your (?:message|mail)|"
    r"permanent (?:fatal )?(?:error|failure)|fatal errors|returned (?:to|mail)|did not reach|"
    r"diagnostic information for administrators|generating server|reporting-mta|final-recipient|"
    r"following (?:recipient|address|user|error|organi)|mailbox (?:is )?(?:full|unavailable)|user unknown|"
    r"unknown user|no such user|does not exist|message (?:was |has been )?(?:rejected|returned|blocked|"
    r"delayed)|"
    r"has not (?:yet )?been delivered|address (?:not found|couldn.t be found)|remote server returned|"
    r"host .{0,100}said|retry timeout|recipient address rejected|over quota|"
    r"nicht (?:zugestellt|ausgeliefert|übermittelt)|konnte nicht|unzustellbar|n.a (?:pas )?(?:pu|été)|"
    r"n.a pas pu|non (?:remis|distribu)|échec|no se (?:pudo|ha podido|puede)|no pudo|entreg\w+|impossibile|"
    r"non è stato (?:possibile|recapitato)|recapit|"
    r"não (?:pôde|foi|pode)|nao foi|kon niet|niet (?:worden )?(?:bezorgd|afgeleverd)|kunde inte|kunne ikke|"
    r"ei voitu|nie (?:mogła|może|można|został)|nemohla|nelze|nie je možné|nem sikerült|nem lehet|"
    r"nu a (?:putut|fost)|"
    r"не (?:удалось|может|была|было|смогли|доставлен)|неможливо|teslim edil|δεν (?:ήταν|μπόρεσε|παραδόθηκε|"
    r"είναι)|无法|退信|未能|送达|投递|配信|配達|送信できません|届け|전송|배달|不能|無法|không (?:thể|gửi)|ไม่สามารถ|לא ניתן|تعذر|"  # noqa: E501 -- one pattern, long or wide
    r"tidak (?:dapat|bisa)",
    re.IGNORECASE,
)
_DELAY_SUBJECT: Final = re.compile(
    r"delay|still being retried|not yet|verzögert|verzögerung|retard|retras|ritard|"
    r"atras|atraso|vertraag|försen|forsink|viiväst|opóźni|zpožd|oneskor|késlelt|întârzi|задерж|отложен|затрим|"
    r"gecik|καθυστέρ|延迟|延遲|遅延|遅れ|지연|warning: could not",
    re.IGNORECASE,
)
_DELAY_TEXT: Final = re.compile(
    r"not (?:yet )?been delivered (?:to one or more of its recipients )?(?:after|yet)|has been delayed|"
    r"is (?:being )?delayed|was delayed|no action is required on your part|will (?:be retried|keep trying|"
    r"continue to (?:be |try|attempt))|"
    r"still being retried|warning message only|do not need to resend|don.t need to resend|"
    r"delivery attempts will continue|will retry|temporary problem delivering|this is just a warning|"
    r"wird weiter(?:hin)? versucht|weitere zustellversuche|vorübergehend|"
    r"nouvelle tentative|seguirá intentando|ulteriori tentativi|será? (?:tentad|reintentad)|повторн|"
    r"попытки доставки|hasn.t been delivered",
    re.IGNORECASE,
)
_GIVEN_UP: Final = re.compile(
    r"giv(?:en|ing) up|permanent (?:error|failure)|fatal error|could not be delivered (?:to|for)|too long|"
    r"retry time(?:out)? .{0,20}exceeded|will not be retried|no further attempts|delivery (?:has )?failed|"
    r"undeliverable|expired",
    re.IGNORECASE,
)
#: Where the notice ends and the returned mail begins.
_RETURNED: Final = re.compile(
    r"below this line is (?:a|the) copy|this is a copy of (?:the|your) message|copy of (?:the|"
    r"your) (?:original )?message|^-{2,} ?original message|^-{3,} ?start of|original message headers|"
    r"^\W{0,8}(?:the )?(?:original|returned) (?:message|mail) (?:follows|was|is|header|attached)|"
    r"message header(?:s)? follow|^-{3,} ?returned (?:mail|message)|--- ?the header of the original|"
    r"your original message|unsent message (?:follows|below)|"
    r"^-{3,}.{0,40}(?:kopie|copie|copia|ursprünglich|original).{0,40}|ursprüngliche (?:nachricht|kopfzeilen)|"
    r"ursprüngliche nachrichtenkopfzeilen|kopie ihrer nachricht|kopfzeilen der|en-têtes de message|"
    r"copie de votre message|encabezados de mensajes|copia (?:del|de su) mensaje|^return-path: |"
    r"^received: from|^dkim-signature:|^message-id: ",
    re.IGNORECASE,
)
_ADDRESS: Final = re.compile(r"(?<![\w.+=/@-])[\w.+=/&'*!#$%?^`{|}~-]{1,90}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}(?![\w@])")
_LEADING: Final = re.compile(r"^[\s>*•·\-–#\[(\"'<:]{0,20}(?:SMTP:|smtp:|mailto:|rfc822;\s?)?$")
_CUE: Final = re.compile(
    r"recipient|deliver|address|\bto\b|rcpt|user|mailbox|failed|unable|empfänger|zugestellt|destinataire|"
    r"adresse|destinatari|dirección|indirizzo|endereço|ontvanger|mottagare|modtager|odbiorc|příjemc|címzett|"
    r"получател|адрес|alıcı|收件人|收件者|宛先|受信者|받는|수신|người nhận|\bat\b|sent to|message for|mail for|\bfor\b|"
    r"\ban\b|\bà\b|\bpara\b",
    re.IGNORECASE,
)
_STATUS: Final = re.compile(r"(?<![\d.])([245])[.](\d{1,3})[.](\d{1,3})(?![\d]|\.\d)")
_CODE: Final = re.compile(r"(?:^|[\s:;#('\"=<\[])([245][0-5]\d)(?=[\s\-#;:,)'\"\]]|\.\s|$)")
_EVIDENCE_CODE: Final = re.compile(r"(?:^|[\s:;#('\"])(?:[45][0-5]\d[ \-#]|#?[45]\.\d{1,3}\.\d{1,3}(?![\d.]))")
_MESSAGE_ID: Final = re.compile(
    r"^[\s>|]{0,10}(?:x-original-)?message-id\s{0,4}:\s{0,20}<?([^<>\s@]{1,250}@[^<>\s]{1,250})>?",
    re.IGNORECASE | re.MULTILINE,
)
_ID: Final = re.compile(r"<([^<>\s]{1,500})>")


def is_from_machine(head: Head) -> bool:
    """Whether the envelope or the headers say that a mail system wrote it."""
    return _strength(head) > 0


def _strength(head: Head) -> int:
    """2 for signs that only mail systems leave, 1 for those that people's robots leave as well."""
    if head.has("x-ms-exchange-message-is-ndr") or head.has("x-failed-recipients"):
        return 2
    name, local = _sender(head)
    if _DAEMONS.match(local):
        return 2
    if local.startswith("postmaster") or autoreply.is_null_sender(head):
        return 1
    submitted = (head.first("auto-submitted") or "no").partition(";")[0].strip().lower()
    if submitted.startswith("auto"):
        return 1
    return 1 if not local and _DAEMON_NAMES.search(name) else 0


def _sender(head: Head) -> tuple[str, str]:
    """Return the display text and the lower-case local part of From ("MAILER-DAEMON" may stand without a domain)."""
    value = (head.first("from") or "")[:500]
    found = _ADDRESS.search(value)
    if found is not None:
        return value, found[0].partition("@")[0].lower()
    bare = value.strip(" <>\"'").rpartition("<")[2].partition("@")[0].strip().lower()
    return value, bare if " " not in bare else ""


def is_delay_notice(head: Head, text: str) -> bool:
    notice = text[:MAX_NOTICE_CHARS]
    if _DELAY_SUBJECT.search(head.first("subject") or ""):
        return True
    return _DELAY_TEXT.search(notice) is not None and _GIVEN_UP.search(notice) is None


def read(head: Head, text: str, *, original_id: str | None, is_report: bool) -> Bounce | None:
    """Return the bounce that the notice ``text`` speaks of, or None if it is none. ``is_report``: it surely is one.

    Where nobody can be named the bounce has one recipient without an address, if there is a reason, or none.
    """
    notice = _notice(text)
    subject = head.first("subject") or ""
    strength = 3 if is_report else _strength(head)
    if not strength or (not is_report and autoreply.is_reply_subject(subject)):
        return None
    signs = (
        bool(_SUBJECT.search(subject)) + bool(_NOTICE.search(notice)) + bool(_EVIDENCE_CODE.search(notice))
        + 2 * head.has("x-failed-recipients") + head.has("x-ms-exchange-message-is-ndr")
    )  # fmt: skip
    if signs + strength < 3 or not signs:
        return None
    recipients = _recipients(head, notice, is_delay=is_delay_notice(head, text))
    if strength < 2 and not recipients:
        return None  # a parcel service speaks of failed deliveries, too
    return Bounce(recipients=tuple(recipients), original_message_id=original_id, reporting_mta=_reporting_mta(notice))


def _notice(text: str) -> str:
    """Return the machine's own words: what stands before the returned mail."""
    kept: list[str] = []
    for number, line in enumerate(text[:MAX_NOTICE_CHARS].split("\n")[:MAX_NOTICE_LINES]):
        line = line[:MAX_LINE_CHARS].rstrip()
        if number > 1 and _RETURNED.search(line) and any(_ADDRESS.search(before) for before in kept):
            break
        kept.append(line)
    return "\n".join(kept)


def _recipients(head: Head, notice: str, *, is_delay: bool) -> list[BouncedRecipient]:
    named = _ADDRESS.findall((head.first("x-failed-recipients") or "")[:20_000])
    ours = {
        found.lower()
        for name in ("to", "delivered-to", "x-original-to")
        for found in _ADDRESS.findall((head.first(name) or "")[:5000])
    }
    blocks = _blocks(notice, ours)
    addresses = list(dict.fromkeys([*named, *(address for address, _ in blocks)]))
    if not addresses:
        addresses = _scan(head, notice, ours) or _any_address(notice, ours)
    told: dict[str, str] = {}
    for address, words in blocks:
        told[address.lower()] = f"{told.get(address.lower(), '')} {words}".strip()
    whole = _plain_diagnostic(notice)
    recipients: list[BouncedRecipient] = []
    for address in addresses[:MAX_RECIPIENTS]:
        own = told.get(address.lower(), "")
        diagnostic = own if find_status(own) or find_code(own) or (len(addresses) > 1 and own) else whole or own
        recipients.append(_judge(address, diagnostic, is_delay=is_delay))
    if not recipients and (find_status(whole) or find_code(whole)):
        recipients.append(_judge(None, whole, is_delay=is_delay))
    return recipients


def _judge(address: str | None, diagnostic: str, *, is_delay: bool) -> BouncedRecipient:
    status, code = find_status(diagnostic), find_code(diagnostic)
    reason = bounce_reasons.classify(status, code, diagnostic)
    return BouncedRecipient(
        address=address,
        action="delayed" if is_delay else "failed",
        status=status,
        code=code,
        diagnostic=diagnostic[:MAX_DIAGNOSTIC_CHARS],
        reason=reason.word,
        is_permanent=not is_delay and reason.is_permanent,
    )


def _blocks(notice: str, ours: set[str]) -> list[tuple[str, str]]:
    """Return each address that stands where recipients stand, with the words that follow it."""
    blocks: list[tuple[str, list[str]]] = []
    lines = notice.split("\n")
    cue = -10
    for number, line in enumerate(lines):
        found = _ADDRESS.search(line)
        address = found[0].strip(".'") if found else ""
        if found and not _is_other(address, ours):
            before, after = line[: found.start()], line[found.end() :]
            is_leading = _LEADING.match(before) is not None
            tail = after.lstrip("> \t)]'\"")
            stands_alone = is_leading and (not tail or tail[0] in ":;,(" or after[:1] in ">)" or number - cue <= 3)
            is_spoken_of = not blocks and _CUE.search(before) is not None and not find_code(before)
            if (stands_alone or is_spoken_of) and all(known != address for known, _ in blocks):
                blocks.append((address, [tail.lstrip(":;, ")] if tail else []))
                if len(blocks) >= MAX_RECIPIENTS:
                    break
                continue
        if _CUE.search(line):
            cue = number
        if blocks and len(blocks[-1][1]) < 14 and line.strip():
            blocks[-1][1].append(line.strip())
    return [(address, " ".join(" ".join(words).split())[:MAX_DIAGNOSTIC_CHARS]) for address, words in blocks]


def _is_other(address: str, ours: set[str]) -> bool:
    local = address.partition("@")[0].lower()
    return (
        address.lower() in ours
        or _DAEMONS.match(local) is not None
        or local in ("postmaster", "abuse", "support-noreply")
    )


def _scan(head: Head, notice: str, ours: set[str]) -> list[str]:
    """Ask the scanners of flufl.bounce, on plain ASCII of bounded size."""
    message = Message()
    sender = _ascii(head, "from")
    message["From"] = sender if any(address for _, address in getaddresses([sender])) else _NOBODY
    for name in ("subject", "x-mailer"):
        if value := _ascii(head, name):
            message[name] = value
    message["Content-Type"] = "text/plain"
    lines = notice[:_SCANNER_CHARS].encode("ascii", "replace").decode("ascii").split("\n")
    message.set_payload("\n".join(line[:200] for line in lines[:200]))
    found = sorted(address.decode("ascii", "replace") for address in _ask_scanners(message))
    return [address for address in found if _ADDRESS.fullmatch(address) and not _is_other(address, ours)]


def _ascii(head: Head, name: str) -> str:
    return (head.first(name) or "").encode("ascii", "replace").decode("ascii")[:300]


def _ask_scanners(message: Message) -> set[bytes]:
    """Return whom they name. They are scripts for mails that were once seen: some trip over what nobody sent yet."""
    try:
        temporary, permanent = all_failures(message)
    except Exception:  # noqa: BLE001  foreign guesses about hostile bytes; the reader has its own next best guess
        return set()
    return {*temporary, *permanent}


def _any_address(notice: str, ours: set[str]) -> list[str]:
    for found in _ADDRESS.finditer(notice):
        if not _is_other(found[0], ours):
            return [found[0].strip(".'")]
    return []


def _plain_diagnostic(notice: str) -> str:
    """Return the lines from the first that has a code on; without one, the whole start of the notice."""
    lines = [line.strip() for line in notice.split("\n")]
    for number, line in enumerate(lines):
        if line and (_STATUS.search(line) or _EVIDENCE_CODE.search(line)):
            return " ".join(" ".join(lines[max(0, number) : number + 4]).split())[:MAX_DIAGNOSTIC_CHARS]
    return " ".join(notice.split())[:MAX_DIAGNOSTIC_CHARS]


def find_diagnostic(text: str, address: str | None) -> str:
    """Return what the readable part says of ``address`` when the form says nothing; "" without a code in it."""
    notice = _notice(text)
    for found, words in _blocks(notice, set()):
        if address is None or found.lower() == address.lower():
            return words if find_status(words) or find_code(words) else ""
    return ""


def find_status(text: str) -> str | None:
    """Return the first enhanced code (RFC 3463) that is not part of an IP address or a version."""
    match = _STATUS.search(text[:4000])
    return f"{match[1]}.{int(match[2])}.{int(match[3])}" if match else None


def find_code(text: str) -> int | None:
    """Return the first three-digit SMTP reply of a refusal."""
    codes = [int(match[1]) for match in _CODE.finditer(text[:4000])]
    return next((code for code in codes if code >= 400), None) or (codes[0] if codes else None)


def find_message_id(text: str) -> str | None:
    """Return the Message-ID in a returned mail that stands in the text, without brackets."""
    match = _MESSAGE_ID.search(text[: 4 * MAX_NOTICE_CHARS])
    return match[1] if match else None


def read_ids(value: str) -> list[str]:
    """Return the ids of an In-Reply-To or References; a lone id without brackets counts."""
    found = _ID.findall(value[:20_000])
    bare = value.strip()
    return found or ([bare] if "@" in bare and " " not in bare and len(bare) < 500 else [])


def _reporting_mta(notice: str) -> str | None:
    match = re.search(
        r"(?:generating server|qmail-send program at|mail system at host|"
        r"reporting-mta)\s?[:;]?\s{0,3}(?:dns;\s?)?([\w-]{1,63}(?:\.[\w-]{1,63}){1,8})",
        notice,
        re.IGNORECASE,
    )
    return match[1] if match else None
