"""Why a mail was refused, in one word, from the enhanced code, the reply code and the words of the other side.

Sources: RFC 3463 with its registry, RFC 5321 section 4.2, RFC 7372, RFC 7505; the refusal texts of Gmail, Microsoft,
Yahoo, Postfix, Exim, Sendmail, qmail, Mimecast, Barracuda, Proofpoint and others. The first digit of the reply
decides now or never; the enhanced code only refines it (FAULTS F-S02).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_DIAGNOSTIC_CHARS: Final = 2000

#: Word -> (whose side it is, whether a 5xx with it is meant for good).
REASONS: Final[dict[str, tuple[str, bool]]] = {
    "no_such_mailbox": ("recipient", True),
    "no_such_domain": ("recipient", True),
    "bad_address": ("recipient", True),
    "ambiguous_address": ("recipient", True),
    "moved": ("recipient", True),
    "mailbox_disabled": ("recipient", True),
    "mailbox_full": ("recipient", False),
    "takes_no_mail": ("recipient", True),
    "owner_changed": ("recipient", True),
    "list_problem": ("recipient", True),
    "not_allowed": ("policy", True),  # the recipient or list takes no mail from us
    "too_big": ("content", True),
    "content_refused": ("content", True),
    "virus": ("content", True),
    "encoding": ("content", True),
    "spam": ("policy", True),
    "blocked": ("policy", True),
    "policy": ("policy", True),
    "relay_denied": ("policy", True),
    "authentication": ("ours", True),  # SPF, DKIM, DMARC
    "reverse_dns": ("ours", True),
    "sender_refused": ("ours", True),
    "tls": ("ours", True),
    "protocol": ("ours", True),
    "too_many_recipients": ("ours", False),
    "rate_limited": ("ours", False),
    "login": ("login", True),
    "greylisted": ("theirs", False),
    "system_full": ("theirs", False),
    "system_error": ("theirs", True),
    "not_reachable": ("theirs", True),
    "dns_failure": ("theirs", True),
    "loop": ("theirs", True),
    "expired": ("theirs", True),
    "other": ("theirs", True),
}


@dataclass(frozen=True, slots=True)
class Reason:
    """``side``: recipient | theirs | ours | content | policy | login. ``is_permanent``: trying again is no use."""

    word: str
    side: str
    is_permanent: bool


#: subject.detail of RFC 3463 and the registry -> word.
_CODES: Final = {
    "1.0": "bad_address", "1.1": "no_such_mailbox", "1.2": "no_such_domain", "1.3": "bad_address",
    "1.4": "ambiguous_address", "1.6": "moved", "1.7": "sender_refused", "1.8": "sender_refused",
    "1.10": "takes_no_mail", "2.1": "mailbox_disabled", "2.2": "mailbox_full", "2.3": "too_big",
    "2.4": "list_problem", "3.0": "system_error", "3.1": "system_full", "3.2": "system_error",
    "3.3": "content_refused", "3.4": "too_big", "3.5": "system_error", "4.0": "not_reachable",
    "4.1": "not_reachable", "4.2": "not_reachable", "4.3": "dns_failure", "4.4": "not_reachable",
    "4.5": "system_full", "4.6": "loop", "4.7": "expired", "4.8": "reverse_dns", "4.14": "loop",
    "4.312": "dns_failure", "4.316": "not_reachable", "4.317": "not_reachable", "4.310": "dns_failure",
    "5.0": "protocol", "5.1": "protocol", "5.2": "protocol", "5.3": "too_many_recipients", "5.4": "protocol",
    "5.5": "protocol", "5.6": "protocol", "6.0": "content_refused", "6.1": "content_refused", "6.2": "encoding",
    "6.3": "encoding", "6.4": "encoding", "6.5": "encoding", "6.6": "content_refused", "6.7": "encoding",
    "6.8": "encoding", "6.9": "encoding", "6.10": "encoding", "6.11": "protocol", "7.0": "policy", "7.1": "policy",
    "7.2": "not_allowed", "7.3": "tls", "7.4": "tls", "7.5": "tls", "7.6": "tls", "7.7": "content_refused",
    "7.8": "login", "7.9": "login", "7.10": "tls", "7.11": "tls", "7.12": "login", "7.13": "login", "7.14": "login",
    "7.15": "system_full", "7.16": "too_big", "7.17": "owner_changed", "7.18": "owner_changed",
    "7.19": "other", "7.20": "authentication", "7.21": "authentication", "7.22": "authentication",
    "7.23": "authentication", "7.24": "authentication", "7.25": "reverse_dns", "7.26": "authentication",
    "7.27": "sender_refused", "7.28": "rate_limited", "7.29": "authentication", "7.30": "tls",
    "7.57": "login", "7.60": "login", "7.124": "not_allowed", "7.133": "not_allowed", "7.134": "not_allowed",
    "7.135": "not_allowed", "7.136": "not_allowed", "7.139": "login", "7.506": "spam", "7.509": "authentication",
    "7.511": "blocked", "7.705": "rate_limited", "7.708": "blocked", "7.750": "sender_refused",
}  # fmt: skip

#: Codes that say so little that the words beside them count for more.
_VAGUE: Final = frozenset(
    {
        "0.0",
        "1.0",
        "2.0",
        "3.0",
        "3.2",
        "3.5",
        "4.0",
        "4.1",
        "4.4",
        "4.7",
        "5.0",
        "5.1",
        "5.2",
        "5.4",
        "6.0",
        "7.0",
        "7.1",
        "1.10",
        "2.1",
        "3.9",
        "1.9",
    }
)
#: Words that are believed even against a definite code of the same subject.
_STRONG: Final = frozenset({"mailbox_full", "greylisted", "rate_limited", "loop"})

_REPLIES: Final = {
    421: "not_reachable", 432: "rate_limited", 452: "system_full", 454: "tls", 500: "protocol", 501: "protocol",
    502: "protocol", 503: "protocol", 504: "protocol", 521: "takes_no_mail", 530: "login", 534: "login",
    535: "login", 538: "tls", 550: "no_such_mailbox", 551: "moved", 552: "mailbox_full", 553: "bad_address",
    554: "policy", 555: "protocol", 556: "takes_no_mail",
}  # fmt: skip

#: Words of the other side, asked in this order: the narrow before the wide.
_TEXTS: Final[tuple[tuple[str, str], ...]] = (
    (
        "greylisted",
        r"gr[ae]y-?\s?list|postgrey|gr[ae]y list|try again in \d+ (?:sec|min)|temporarily deferred.{0,30}unknown|"
        r"4\.7\.1.{0,60}(?:please try again|try later)|deferred, please retry|first[- ]time sender",
    ),
    (
        "loop",
        r"too many hops|hop count exceeded|routing loop|mail loop|mail forwarding loop|loop(?:s)? back to myself|"
        r"loop detected|too many \W?received|maximum hop|hopcount|loops back",
    ),
    (
        "authentication",
        r"\bspf\b|\bdkim\b|\bdmarc\b|sender policy framework|unauthenticated (?:e?mail|sender|messages?)|"
        r"not authenticated|"
        r"not authorized to send (?:mail )?(?:on behalf|from)|domain does not designate|"
        r"auth(?:entication)? requirements|"
        r"domainkeys|arc (?:validation|fail)|fails? authentication|sender is not authenticated|is unauthenticated",
    ),
    (
        "reverse_dns",
        r"reverse dns|\bptr\b|rdns|reverse lookup|cannot find your (?:reverse )?hostname|fcrdns|"
        r"client host rejected: cannot find|ip name lookup failed|helo command rejected|invalid helo",
    ),
    (
        "rate_limited",
        r"rate limit|too many (?:messages|mails|connections|requests|errors|concurrent|emails)|too fast|"
        r"too quickly|"
        r"throttl|exceeded .{0,40}(?:sending|rate|per hour|per day|hourly|daily|messages)|daily (?:user )?sending|"
        r"sending (?:limit|quota)|unusual(?:ly high)? rate|unusual volume|mail flood|slow down|policyd|"
        r"receiving mail at a rate|connection rate|ratelimit|traffic .{0,30}(?:limited|delayed)|limit exceeded for",
    ),
    (
        "too_big",
        r"message (?:size|length|too (?:large|big))|(?:message|mail|size|content) exceeds|exceed(?:s|ed|"
        r"ing)? .{0,50}(?:maximum|fixed|allowed).{0,20}size|"
        r"too (?:large|big)|size limit|exceeds (?:the )?(?:maximum|size)|larger than|max(?:imum)? message size|"
        r"message file too big|"
        r"zu gro(?:ß|ss)|trop volumineux|taille maximale|demasiado grande|troppo grande|te groot|MESSAGE_TOO_LARGE",
    ),
    (
        "mailbox_full",
        r"mailbox (?:is |was )?(?:currently )?full|over ?-?quota|quota (?:is )?(?:exceeded|full|limit)|"
        r"exceed\w* .{0,40}(?:quota|mailbox size|storage)|"
        r"(?:out of|not enough|insufficient) (?:disk|storage|disc|system storage|mail storage) ?(?:space|quota)?|"
        r"full mailbox|mailbox .{0,30}(?:exceed|limit)|"
        r"inbox is full|quota.{0,40}(?:exceed|überschr|dépass|superad|plein|full)|has exceeded (?:his|her|their|"
        r"its|the)|maildir over quota|account is full|"
        r"postfach.{0,40}voll|speicherplatz|boîte .{0,40}pleine|bo[iî]te aux lettres .{0,20}satur|"
        r"buz[oó]n .{0,20}llen|casella .{0,30}piena|"
        r"caixa .{0,30}(?:cheia|lotada)|mailbox vol|ящик .{0,30}переполн|переполнен|skrzynka .{0,30}(?:pełna|"
        r"przepełniona)|overquota|over its quota|"
        r"storage (?:limit|quota|full)|user is over|disk full|no space left|邮箱已满|容量不足|容量超|メールボックス.{0,20}(?:一杯|いっぱい|超)",  # noqa: E501 -- one pattern, long or wide
    ),
    ("virus", r"\bvirus|malware|infected|trojan|dangerous (?:attachment|file)"),
    (
        "not_allowed",
        r"not allowed to (?:send|post)|delivery restrict|notauth\b|restricted|not permitted to (?:send|post)|"
        r"only accepts? (?:mail|messages) from|"
        r"sender (?:is )?not (?:on|in) .{0,30}(?:list|safe)|members only|you are not allowed|"
        r"authenticat\w+ .{0,30}required to send|RequireSenderAuth|"
        r"does not accept (?:mail|messages) from (?:you|this sender|unknown|outside|external)|"
        r"not accepting messages from|sendergroupauth|permission to (?:post|send)",
    ),
    (
        "moved",
        r"no longer (?:on|at|with|employed|works)|(?:has )?(?:moved|changed) (?:to|address)|"
        r"address (?:has )?changed|user has left|new address|left the company|retired",
    ),
    (
        "mailbox_disabled",
        r"(?:account|mailbox|user|address|recipient|e-?mail).{0,40}(?:disabled|inactive|suspended|deactivated|"
        r"locked|not active|closed|expired|discontinued|blocked|been blocked|unavailable for delivery)|"
        r"(?:disabled|inactive|suspended|deactivated|closed|locked) (?:account|mailbox|user|recipient|address)|"
        r"user is inactive|not? (?:been )?activated|"
        r"dormant|abandoned|account that you tried to reach is (?:disabled|inactive)|deaktiviert|gesperrt|"
        r"désactivé|deshabilitad|disabilitat",
    ),
    (
        "takes_no_mail",
        r"null ?mx|does not accept (?:e?-?mail|any mail)|nullmx|"
        r"domain (?:of sender address )?.{0,40}does not receive|mail is not accepted|no mail accepted|"
        r"not accept mail",
    ),
    (
        "no_such_domain",
        r"(?:host|domain|hôte|domaine) (?:name )?(?:is )?(?:not found|unknown|does(?:n't| not) exist|non existent|"
        r"lookup failed)|no such domain|"
        r"unrouteable (?:mail )?domain|name or service not known|nxdomain|unknown (?:mail )?(?:domain|host)|"
        r"domain not found|bad destination host|"
        r"couldn't find any host|domain .{0,80}(?:does not exist|could(?:n't| not) be found|wasn't found)|"
        r"non-?existent (?:domain|host)|"
        r"illegal host|host unknown|no such host|domain name not found|no mx|dns type \W?mx\W? lookup|"
        r"domäne .{0,40}nicht gefunden|InvalidDomain",
    ),
    (
        "no_such_mailbox",
        r"(?:no such|unknown|invalid|nonexistent|non-existent|undefined|bad destination|"
        r"unrecogni[sz]ed) (?:local )?(?:user|recipient|mailbox|address|account|local[- ]part|e-?mail|person|"
        r"alias|mail drop|virtual user|rcpt)|"
        r"(?:user|recipient|mailbox|account|address|alias|inbox|e-?mail|rcpt).{0,60}(?:unknown|not found|"
        r"not exist|doesn.?t exist|n.t exist|non[- ]?existent|not known|not listed|not local|invalid|"
        r"no longer (?:exist|valid|available|active)|wasn.?t found|couldn.?t be found|could not be found|"
        r"not a (?:valid|known)|unavailable|not available|not recogni[sz]ed|un-?known|not valid|undeliverable|"
        r"not our customer)|"
        r"recipientnotfound|recipnotfound|does not exist|doesn.t exist|no mailbox here|user_?unknown|"
        r"no one (?:here )?by that name|not our customer|unrout(?:e)?able address|"
        r"there is no (?:such )?(?:user|one)|no user|dosn.?t exist|isn.?t a valid|no account|not a known user|"
        r"no such person|not a member|this user doesn|no such (?:id|name|address)|"
        r"unbekannt|existiert nicht|nicht vorhanden|nicht gefunden|kein(?:e)? (?:postfach|mailbox|empfänger|"
        r"benutzer)|empf\w+ .{0,30}nicht|inconnu|n.existe pas|introuvable|adresse .{0,30}invalide|no existe|"
        r"desconocid|non esiste|sconosciut|inesistente|não existe|nao existe|inexistente|inexistent|desconhecid|"
        r"bestaat niet|onbekend|finns inte|okänd|findes ikke|finnes ikke|ukendt|ukjent|nie istnieje|nieznany|"
        r"neexistuje|neznám|nem létezik|ismeretlen|не существует|не найден|неизвестн|не знайдено|не існує|"
        r"bulunamadı|"
        r"不存在|找不到|用户不存在|存在しません|見つかりません|宛先不明|존재하지|알 수 없는|ambiguous.{0,20}recipient|invalid final delivery|"  # noqa: E501 -- one pattern, long or wide
        r"account not available|user disabled; cannot receive|mailbox unavailable|access denied.{0,20}as\(|"
        r"recipient address rejected: access denied|"
        r"verification failed|recipient verif|failed to route the address|no valid recipients|not deliverable to|"
        r"no hay|bad recipient",
    ),
    ("spam", r"spam (?:firewall|content|score|message|detected|filter)|as spam|unsolicited|is spam|looks like spam"),
    (
        "blocked",
        r"block ?list|black ?list|\brbl\b|dnsbl|spamhaus|spamcop|barracudacentral|sorbs|uceprotect|spamrats|"
        r"abuseat|blocked using|ip (?:address )?.{0,40}(?:blocked|banned|listed|reputation)|"
        r"\bbanned\b|poor reputation|bad reputation|low reputation|reputation|sender(?:score| ?base)|invaluement|"
        r"blocked by|has been blocked|access (?:to this mail system )?.{0,30}denied due|"
        r"connection refused by policy|client host .{0,80}blocked|listed (?:at|in|by|on)|"
        r"is not allowed to connect|tenant has exceeded|denied by .{0,20}(?:acl|rule)",
    ),
    (
        "spam",
        r"\bspam\b|spam[- ](?:score|message|detected|content)|unsolicited|junk mail|bulk ?mail|looks like spam|"
        r"likely .{0,20}spam|\bphish|content rejected|message (?:content )?rejected|message blocked|suspicious|"
        r"scored|uribl|surbl|high[- ]?probability|undesirable|classified",
    ),
    (
        "relay_denied",
        r"relay(?:ing)?[- ](?:access )?(?:denied|not (?:allowed|permitted)|prohibited|disallowed|restrict)|"
        r"unable to relay|not permitted to relay|we do not relay|cannot relay|relaying|relay attempt|rcpthosts|"
        r"isn.?t in my list of allowed|not configured to relay|sorry, that domain",
    ),
    (
        "login",
        r"authentication (?:is )?required|auth(?:entication)? (?:failed|unsuccessful|credentials)|"
        r"username and password not accepted|bad credentials|invalid credentials|login (?:failed|denied)|"
        r"must (?:be authenticated|authenticate)|SmtpClientAuthentication|application-specific password|"
        r"send ?as ?denied|must log ?in|basic authentication is disabled",
    ),
    (
        "tls",
        r"must issue a starttls|starttls|tls (?:is )?(?:required|handshake|failed|not available)|"
        r"encryption (?:is )?(?:required|needed)|ssl|certificate",
    ),
    (
        "sender_refused",
        r"sender (?:address )?(?:rejected|refused|denied|verify failed|not (?:accepted|exist|valid|allowed))|"
        r"domain of sender|sender domain|mail from .{0,60}(?:rejected|denied|invalid)|bad sender|invalid sender|"
        r"sender .{0,40}(?:not exist|unknown|invalid)|from (?:address|header) .{0,40}(?:invalid|not verified|"
        r"rejected)|not verified|return[- ]path .{0,40}(?:invalid|reject)|envelope sender",
    ),
    ("too_many_recipients", r"too many recipients|recipient limit|recipients? per (?:message|session)"),
    (
        "bad_address",
        r"bad (?:address|mailbox|recipient) syntax|malformed|syntax(?: of)? .{0,20}address|invalid address|"
        r"illegal (?:address|character)|not a valid rfc|address syntax|mailbox name not allowed|mailbox syntax|"
        r"invalid characters|rfc ?-?[28]22|mangled",
    ),
    ("encoding", r"smtputf8|non-?ascii|internationali[sz]ed|8bitmime|conversion"),
    (
        "content_refused",
        r"attachment|file type|bare (?:lf|line ?feed)|mime|header .{0,40}(?:missing|invalid|malformed)|"
        r"messages? (?:missing|without) |not rfc|5322|body .{0,20}(?:reject|type)|content (?:type|encoding|refused)",
    ),
    (
        "expired",
        r"queue too long|retry time(?:out)? (?:not reached|exceeded)|expired|retry timeout exceeded|"
        r"delivery time(?:d)? ?-?out|too long in queue|could not be delivered for|giving up on|delivery timeout|"
        r"QUEUE\.Expired|time ?-?limit|has been (?:in the queue|trying)|maximum (?:time|retry)",
    ),
    (
        "dns_failure",
        r"dns (?:error|fail|lookup|problem|query|temporary)|servfail|name server|name service|temporary lookup|"
        r"dns server|mx (?:record|lookup|host)|lookup failed|could not resolve|domain resolution",
    ),
    (
        "not_reachable",
        r"connection (?:timed out|refused|reset|dropped|lost|closed|died)|connect(?:ion)? to .{0,80}(?:refused|"
        r"timed|failed)|timed? ?-?out|no route to host|host (?:is )?unreachable|network (?:is )?unreachable|"
        r"lost connection|could ?n.t (?:establish|connect)|not respond|unable to connect|can.?t connect|"
        r"unreachable|no answer|host .{0,40}not respond|wasn't able to establish|remote server returned|"
        r"server .{0,30}(?:down|unavailable)|nicht erreichbar|injoignable",
    ),
    (
        "system_full",
        r"insufficient (?:system )?(?:resources|memory)|system (?:is )?(?:too )?(?:busy|full|load)|"
        r"load (?:average|too high)|server (?:is )?busy|too busy|queue file|"
        r"resources? (?:temporarily )?unavailable",
    ),
    (
        "policy",
        r"polic(?:y|ies)|not accepted|refused|rejected|denied|not welcome|prohibited|forbidden|administrat|"
        r"unauthori[sz]ed|local (?:policy|reasons)|abuse|security|not authorized|transaction failed",
    ),
    (
        "system_error",
        r"internal (?:server )?error|local error|server error|temporary (?:system|server|failure|problem|local)|"
        r"system (?:error|incorrectly|config)|misconfigur|configuration|service (?:not available|unavailable)|"
        r"out of memory|try (?:again )?later|temporar",
    ),
)

_PATTERNS: Final = tuple((word, re.compile(pattern, re.IGNORECASE)) for word, pattern in _TEXTS)
_SPACES = re.compile(r"\s+")


def classify(status: str | None, code: int | None, diagnostic: str) -> Reason:
    """Return why, from an enhanced code (``5.1.1``), a reply code (550) and the words beside them.

    A vague code (``5.0.0``, ``5.7.1``) leaves the word to the text, a definite one keeps it. Raises nothing.
    """
    digit = _first_digit(status, code, diagnostic)
    word = _find_word(status, code, diagnostic)
    side, is_final_word = REASONS[word]
    is_expired = status is not None and status.partition(".")[2] == "4.7" and word == "expired"
    if digit == "2":
        is_permanent = False
    elif digit == "5":
        is_permanent = is_final_word
    else:
        # X.4.7: the other side has already tried for days
        is_permanent = is_expired
    return Reason(word, side, is_permanent)


def _first_digit(status: str | None, code: int | None, diagnostic: str) -> str:
    if code is not None:
        return str(code)[:1]
    if status:
        return status[:1]
    return ""


def _find_word(status: str | None, code: int | None, diagnostic: str) -> str:
    detail = status.partition(".")[2] if status else ""
    coded = _word_of_code(detail)
    spoken = _word_of_text(diagnostic)
    if coded is not None and detail not in _VAGUE:
        return spoken if spoken in _STRONG and detail[:1] in "1245" and detail not in ("4.6", "4.14") else coded
    if detail == "7.1" and spoken == "no_such_mailbox" and code == 454:
        return "policy"
    if spoken is not None and not (spoken in ("policy", "system_error", "content_refused") and coded):
        return spoken
    if coded is not None and detail != "0.0":
        return coded
    if code in _REPLIES:
        return spoken or _REPLIES[code]
    return spoken or coded or "other"


def _word_of_code(detail: str) -> str | None:
    if detail in _CODES:
        return _CODES[detail]
    subject, _, number = detail.partition(".")
    if subject == "7" and number.isdecimal():
        n = int(number)
        if 606 <= n <= 649 or 501 <= n <= 503 or n == 511:
            return "blocked"
        if 500 <= n <= 699:
            return "rate_limited" if n in (500, 650) else "policy"
    families = {"1": "no_such_mailbox", "2": None, "3": "system_error", "4": "not_reachable", "5": "protocol",
                "6": "content_refused", "7": "policy"}  # fmt: skip
    return families.get(subject)


def _word_of_text(diagnostic: str) -> str | None:
    text = _SPACES.sub(" ", diagnostic[:MAX_DIAGNOSTIC_CHARS])
    if not text.strip():
        return None
    for word, pattern in _PATTERNS:
        if pattern.search(text):
            return word
    return None
