"""By which signs a mail is a bounce: who sent it, what its subject says, what its first words say.

A bounce needs signs of two sorts: that a mail system wrote it, and that it speaks of a failed delivery of mail. So a
person who writes about an undeliverable parcel stays a person, and so does one who forwards a bounce. Linear time.
"""
# ruff: noqa: E501 -- what a mail system says is kept on one line

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final

from gateway.normalize import autoreply
from gateway.normalize.headers import Head

MAX_NOTICE_CHARS: Final = 30_000
#: A bounce without any sign in its header has to say so in its first paragraph: a person says something first.
_TOP_CHARS: Final = 300

ADDRESS: Final = re.compile(r"(?<![\w.+=/@-])[\w.+=/&'*!#$%?^`{|}~-]{1,90}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}(?![\w@])")
DAEMONS: Final = re.compile(
    r"^(?:mailer[-_.]?daemon|mail[-_.]?daemon|mdaemon|mail[-_.]?deliver[\w.-]*|(?:un)?deliver\w*[-_.]?(?:failure|status|notif\w*|report)|"
    r"microsoftexchange[0-9a-f]+|bounces?(?:[-+_=][\w.=+-]*)?|returned?[-_.]?mail|mailsystem|mail[-_]?system|"
    r"mailerdaemon|smtp[-_.]?daemon|exchange[-_.]?admin\w*|system[-_.]?attendant|noreply-mailer-daemon|ndr)$"
)
#: Senders that are no person, and send other things than bounces as well.
_ROLES: Final = re.compile(
    r"^(?:post[-_.]?master\W?.{0,80}|(?:mail|email|smtp|sys|server)?[-_.]?admin(?:istrator)?|sysadmin|system|imss|mail[-_.]?(?:server|gate\w*|filter|guard|sweeper|marshal|scan\w*)|"
    r"smtp|.{0,30}(?:smtp|anti[-_.]?(?:virus|spam)|virus[-_.]?scan).{0,40}|autom\w{0,8}[-_.]?(?:reply|response))$"
)
_DAEMON_NAMES: Final = re.compile(
    r"mail deliver(?:y|er)? (?:sub)?system|mail delivery service|mailer-daemon|mail administrator|mail system|postmaster|"
    r"delivery (?:failure|notification)|mailsystem|internet mail delivery|system administrator|systemadministrator|"
    r"microsoft outlook|mail deliver",
    re.IGNORECASE,
)
#: Only mail systems set these, and only in bounces.
_BOUNCE_HEADERS: Final = (
    *("x-failed-recipients", "x-ms-exchange-message-is-ndr", "x-dsncontext", "x-ms-embedded-report", "x-mx-bounce"),
    *("x-bounceio-id", "x-ahmailid", "final-recipient"),
)
_SUBJECT: Final = re.compile(
    r"undeliver(?:able|ed)|returned (?:mail|to sender|e-?mail)|return(?:ed|ing) (?:message|to) |"
    r"failure notice|fail(?:ed|ure).{0,20}deliver|"
    r"deliver\w* (?:has )?(?:failed|failure|problem|error|report|status|notification|unsuccessful|delay|impossible)|"
    r"delivery status notification|non-?deliver|not delivered|could ?n.t be delivered|"
    r"mail (?:delivery )?(?:failure|error|failed)|"
    r"message (?:not|un)\W?deliver|failed mail|mail failed|message delay|delayed (?:mail|delivery)|warning: (?:message|"
    r"could not send)|mail could not|"
    r"message you sent|rejected|nondeliverable|permanent (?:delivery )?(?:failure|error)|bounce|"
    r"mail system error|unzustell|nicht zustell|nicht zugestellt|considered unsolicited|in mail from you|contents? from you|zustellung|"
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
    r"无法投递|無法傳遞|未傳遞|退回|投递失败|配信不能|配達|配信できま|送信できません|未送信|배달되지|전송 실패|배달 실패|"
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
    r"nicht (?:zugestellt|ausgeliefert|übermittelt)|fehler bei der auslieferung|konnte nicht|unzustellbar|n.a (?:pas )?(?:pu|été)|"
    r"n.a pas pu|non (?:remis|distribu)|échec|no se (?:pudo|ha podido|puede)|no pudo|entreg\w+|impossibile|"
    r"non è stato (?:possibile|recapitato)|recapit|"
    r"não (?:pôde|foi|pode)|nao foi|kon niet|niet (?:worden )?(?:bezorgd|afgeleverd)|kunde inte|kunne ikke|"
    r"ei voitu|nie (?:mogła|może|można|został)|nemohla|nelze|nie je možné|nem sikerült|nem lehet|"
    r"nu a (?:putut|fost)|"
    r"не (?:удалось|может|была|было|смогли|доставлен)|неможливо|teslim edil|δεν (?:ήταν|μπόρεσε|παραδόθηκε|"
    r"είναι)|无法|退信|未能|送达|投递|配信|配達|送信できません|届け|전송|배달|不能|無法|không (?:thể|gửi)|ไม่สามารถ|לא ניתן|تعذر|"
    r"tidak (?:dapat|bisa)",
    re.IGNORECASE,
)
#: Words that nobody but a mail system begins a mail with.
_UNMISTAKABLE: Final = re.compile(
    r"created automatically by (?:the )?(?:mail|facebook)|qmail-send program|postfix program at|this is the (?:mail system|mail delivery agent)|"
    r"running the courier mail server|transcript of (?:the )?(?:session|attempts)|non-?delivery report|failed recipients?\s{0,3}-|failure reasons?\s{0,3}-|"
    r"automatically[- ]generated (?:delivery status notification|message from)|addresses had (?:permanent |fatal |delivery )|"
    r"(?:mail system|mailer[-_ ]daemon|delivery subsystem) at |(?:rcpt to|body of message|data command) generated|"
    r"message from (?:yahoo|interscan|mailer)|invalid final delivery userid|diagnostic information for administrators|reporting-mta|final-recipient|"
    r"сервером mail\.ru|「m-filter」が自動",
    re.IGNORECASE,
)
#: The same, when a person's address stands beside them.
_DEFINITE: Final = re.compile(
    r"did not reach the following|was considered unsolicited|fehler bei der (?:auslieferung|zustellung)|(?:deliver\w*|sent|addressed) to the following (?:recipient|user|e-?mail)|"
    r"following (?:recipient|address|user|e-?mail address)(?:es|s|\(e?s\))?.{0,40}(?:failed|rejected|undeliver|could not|did not|had|were|not deliver)|"
    r"(?:e-?mail|mail|message)s?\b.{0,120}(?:could not be|couldn.t be|can(?:no|.)t be|was not|were not|has not been|is not|not able to be) (?:delivered|sent) to\b|"
    r"(?:unable|failed|not able|impossible) to (?:send|deliver) (?:the |your |this )?(?:e-?mail|mail|message)|undeliverable to|"
    r"delivery of (?:the |your |this )?(?:e-?mail|mail|message)|delivery failed \d+ attempts|unknown user: |mailbox exceeds allowed size|"
    r"not a valid (?:user|recipient|mailbox) (?:here|at)|address to which your message|problems?\W{1,3}to local user|"
    r"(?:mail|message) has been returned|(?:original|returned|your) (?:message|mail) (?:follows|as received|reads)|(?:returned|unsent) mail|intended recipient: |"
    r"your (?:e-?mail|mail|message).{0,120}(?:was|were|has been|could|cannot|can.t|not) (?:undeliver|not deliver|be deliver|rejected by|blocked by|returned to)|"
    r"message n.a (?:pas )?pu .{0,20}(?:délivr|delivr|remis|distribu|transmis)|(?:nachricht|e-?mail).{0,120}(?:nicht|kann nicht).{0,40}(?:zugestellt|ausgeliefert|übermittelt)|"
    r"(?:mensaje|correo).{0,120}no .{0,30}entreg|(?:messaggio|e-?mail).{0,120}non .{0,30}(?:consegnat|recapitat)|"
    r"(?:mensagem|e-?mail).{0,120}não .{0,30}entreg|(?:письмо|сообщение).{0,120}не .{0,30}(?:доставлен|отправлен)|"
    r"(?:メール|送信).{0,80}(?:できませんでした|失敗しました)|(?:邮件|郵件).{0,80}(?:无法|無法|退回|失败)",
    re.IGNORECASE | re.DOTALL,
)
_DELAY_SUBJECT: Final = re.compile(
    r"delay|still being retried|not yet|verzögert|verzögerung|retard|retras|ritard|"
    r"atras|atraso|vertraag|försen|forsink|viiväst|opóźni|zpožd|oneskor|késlelt|întârzi|задерж|отложен|затрим|"
    r"gecik|καθυστέρ|延迟|延遲|遅延|遅れ|지연|warning: could not",
    re.IGNORECASE,
)
_DELAY_TEXT: Final = re.compile(
    r"not (?:yet )?been delivered (?:to one or more of its recipients )?(?:after|yet)|has been (?:delayed|postponed)|"
    r"is (?:being )?delayed|was delayed|no action is required on your part|will (?:be re-?tried|keep trying|"
    r"continue to (?:be |try|attempt))|"
    r"still being retried|warning message only|advisory-only|do(?: not|n.t) (?:need to )?resend|delays in delivering|"
    r"delivery attempts will continue|will retry|temporary problem delivering|this is just a warning|a warning only|"
    r"wird weiter(?:hin)? versucht|weitere zustellversuche|vorübergehend|"
    r"nouvelle tentative|seguirá intentando|ulteriori tentativi|será? (?:tentad|reintentad)|повторн|"
    r"попытки доставки|hasn.t been delivered",
    re.IGNORECASE,
)
_GIVEN_UP: Final = re.compile(
    r"giv(?:en|ing) up|permanent(?:ly)? (?:error|fail)|failed permanently|fatal error|too long|"
    r"retry time(?:out)? .{0,20}exceeded|will not be retried|no further|delivery (?:has )?failed|could not be delivered (?:to|for) one|"
    r"undeliverable|expired|already made numerous|not continue trying",
    re.IGNORECASE,
)
EVIDENCE_CODE: Final = re.compile(r"(?:^|[\s:;#('\"])(?:[45][0-5]\d[ \-#]|#?[45]\.\d{1,3}\.\d{1,3}(?![\d.]))")


class Origin(IntEnum):
    """How sure it is that a mail system wrote a mail."""

    ANYBODY = 0  #: nothing says so
    ROBOT = 1  #: the envelope or a header says that no person sent it, the sender is a person's address
    ROLE = 2  #: the sender is an office of the mail system, which people may hold
    DAEMON = 3  #: only a mail system sends like that


def origin(head: Head) -> Origin:
    """Return what the header says of who wrote the mail."""
    if not head.index.keys().isdisjoint(_BOUNCE_HEADERS) or "delivery-status" in head.content_type().params.get(
        "report-type", ""
    ):
        return Origin.DAEMON
    name, local = sender(head)
    if DAEMONS.match(local):
        return Origin.DAEMON
    if _ROLES.match(local) or _DAEMON_NAMES.search(name) or not local:
        return Origin.ROLE
    submitted = (head.first("auto-submitted") or "no").partition(";")[0].strip().lower()
    return Origin.ROBOT if submitted.startswith("auto") or _is_from_null(head) else Origin.ANYBODY


def is_from_machine(head: Head) -> bool:
    """Whether the envelope or the headers say that a mail system wrote it, not only the name of an office."""
    came_from = origin(head)
    return came_from in (Origin.DAEMON, Origin.ROBOT) or (
        came_from is Origin.ROLE
        and (_is_from_null(head) or head.has("auto-submitted") or sender(head)[1].startswith("postmaster"))
    )


def _is_from_null(head: Head) -> bool:
    """The null sender, or what some servers write in its place."""
    path = (head.first("return-path") or "").strip(" <>").partition("@")[0].lower()
    return autoreply.is_null_sender(head) or path == "mailer-daemon"


def sender(head: Head) -> tuple[str, str]:
    """Return the display text and the lower-case local part of From ("MAILER-DAEMON" may stand without a domain)."""
    value = (head.first("from") or "")[:500]
    found = ADDRESS.search(value)
    if found is not None:
        return value, found[0].partition("@")[0].lower()
    bare = value.strip(" <>\"'").rpartition("<")[2].partition("@")[0].strip().lower()
    return value, bare if " " not in bare and any(map(str.isalnum, bare)) else ""


def sender_domain(head: Head) -> str:
    """Return the domain of From, or ""."""
    found = ADDRESS.search((head.first("from") or "")[:500])
    return found[0].partition("@")[2] if found else ""


def may_be_bounce(head: Head) -> bool:
    """A look at the header alone, which spares ordinary mail the reading."""
    return origin(head) is not Origin.ANYBODY or _SUBJECT.search(head.first("subject") or "") is not None


def is_bounce(head: Head, notice: str, *, is_report: bool, is_named: bool) -> bool:
    """Whether header and words together are enough. ``is_named``: an address stands where recipients stand."""
    subject = head.first("subject") or ""
    if is_report:
        return _count(subject, notice) > 0
    if autoreply.is_reply_subject(subject):
        return False
    came_from = origin(head)
    if came_from is Origin.DAEMON:
        return _count(subject, notice) > 0 or _DEFINITE.search(notice[:4000]) is not None
    is_sure = _UNMISTAKABLE.search(notice[:4000]) is not None
    is_enough = is_sure or (is_named and _DEFINITE.search(notice[:4000]) is not None)
    if came_from is Origin.ROLE:
        return is_enough or (_count(subject, notice) > 1 and (is_named or _is_from_null(head)))
    if came_from is Origin.ROBOT:
        return is_enough
    if _SUBJECT.search(subject) is None or autoreply.has_reply_mark(subject) or head.has("in-reply-to"):
        return False
    top = notice.lstrip().partition("\n\n")[0][:_TOP_CHARS]
    return is_named and (_UNMISTAKABLE.search(top) or _DEFINITE.search(top)) is not None


def _count(subject: str, notice: str) -> int:
    """How many of three sorts of words speak of a failed delivery."""
    return (
        (_SUBJECT.search(subject) is not None)
        + (_NOTICE.search(notice) is not None or _UNMISTAKABLE.search(notice) is not None)
        + (EVIDENCE_CODE.search(notice) is not None)
    )


def is_delay_notice(head: Head, text: str) -> bool:
    """Whether the mail system still tries."""
    notice = text[:MAX_NOTICE_CHARS]
    if _DELAY_SUBJECT.search(head.first("subject") or ""):
        return True
    return _DELAY_TEXT.search(notice) is not None and _GIVEN_UP.search(notice) is None
