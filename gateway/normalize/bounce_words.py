"""What mail systems say when they refuse, as a table: reason -> words. Asked in this order, the narrow before the wide.

Collected from the refusal texts of Gmail, Microsoft, Yahoo, Apple, Postfix, Exim, Sendmail, qmail, Mimecast,
Barracuda, Proofpoint, docomo, web.de and others. Which reason counts against a code is judged in ``bounce_reasons``.
"""
# ruff: noqa: E501 -- what a mail system says is kept on one line

from __future__ import annotations

import re
from typing import Final

#: How many characters of a diagnostic are weighed.
MAX_WEIGHED_CHARS: Final = 2000

_WORDS: Final[tuple[tuple[str, str], ...]] = (
    (
        "greylisted",
        r"gr[ae]y-?\s?list|postgrey|try again in \d+ (?:sec|min)|temporarily deferred.{0,30}unknown|"
        r"4\.7\.1.{0,60}(?:please try again|try later)|deferred, please retry|first[- ]time sender",
    ),
    (
        "loop",
        r"too many hops|hop count|hopcount|(?:routing|mail|forwarding|infinite) loop|message looping|looping|"
        r"loops? back to (?:myself|itself)|loop (?:detected|was found|count)|too many \W?received|maximum hop|loops back",
    ),
    (
        "dns_failure",
        r"host not found,? try again|name server reply|server ?fail(?:ure)? .{0,20}lookup|host name lookup failure|"
        r"temporar\w{1,3} (?:name |dns |host )?lookup|dns records for|servfail|dns soft error|lookup timed? ?out",
    ),
    ("spam", r"anti-?spam (?:check|filter|engine|system|policy)|spam (?:firewall|content|score|message|detected|filter)|"
        r"as spam\b|unsolicited|(?:is|be|seems?) (?:a )?spam|looks? like spam|spamming|content[ _-]?reject"),
    ("blocked", r"dns[br]bl|dnsbl|spamhaus|spamcop|blocked using|black ?list|block ?list"),
    (
        "authentication",
        r"\bspf\b|\bdkim\b|\bdmarc\b|sender policy framework|unauthenticated (?:e?mail|sender|messages?)|"
        r"not (?:authori[sz]ed|allowed|permitted) to send (?:e?-?mails? )?(?:on behalf|from|for|as)\b|"
        r"domain does not designate|auth(?:entication)? requirements|domainkeys|arc (?:validation|fail)|"
        r"fails? authentication|sender (?:is )?not authenticated|is unauthenticated|mismatches client ip|"
        r"invalid ip for sending mail of domain|cannot be verified by",
    ),
    (
        "reverse_dns",
        r"reverse[- ](?:dns|lookup|hostname|mapping)|\bptr\b|\brdns\b|cannot (?:find|resolve) your (?:reverse )?(?:hostname|address)|"
        r"fcrdns|ip name lookup failed|helo command rejected|(?:invalid|bad|rejected) (?:helo|ehlo)|helo .{0,40}(?:invalid|reject|not resolv)|"
        r"unresolvable relay host|hosts? with (?:a )?dynamic ip|dynamic ips?\b",
    ),
    (
        "mailbox_full",
        r"(?:user|mailbox|recipient|account) (?:has )?too many (?:messages|mails)|zu ?viele (?:e-?)?mails auf dem server|"
        r"number of messages in .{0,40}exceed|too much mail data|mailbox exceeded the local limit|"
        r"exceeding receiving limits|mailbox (?:size|storage|quota|usage|space)? ?(?:limit )?(?:is )?exceed",
    ),
    (
        "rate_limited",
        r"rate[- ]?limit|too many (?:messages|mails|connections|requests|errors|concurrent|emails|smtp sessions|sessions)|"
        r"too fast|too quickly|throttl|sending (?:limit|quota|rate)|"
        r"exceeded .{0,40}(?:sending|rate|per hour|per day|hourly|daily|messages)|daily (?:user )?(?:sending|message)|"
        r"unusual(?:ly high)? rate|unusual volume|unexpected volume|user complaints|mail flood|slow down|policyd|"
        r"receiving mail at a rate|connection (?:rate|limit)|traffic .{0,30}(?:limited|delayed)|limit exceeded for|"
        r"per[- ]domain connection|maximum connection|trop de connexions|allowable number of (?:posts|messages)|"
        r"numerous attempts to (?:send|connect)|too many unwanted",
    ),
    (
        "mailbox_full",
        r"mailbox (?:is |was )?(?:currently )?full|over[ -]?quota|over_quota|over (?:the |its |disk |allowed ){1,3}quota|"
        r"quota (?:is )?(?:exceeded|full|limit|violation|reached)|(?:disk|disc|mail|allowed|storage|userdisk|domaindisk|mailbox) quota|"
        r"exceed\w{0,4} .{0,40}(?:quota|mailbox size|storage|disk ?space)|mailbox size|"
        r"(?:out of|not enough|insufficient|not have enough) (?:disk|storage|disc|system storage|mail storage)? ?(?:space|quota|storage)|"
        r"full mailbox|mailbox .{0,30}(?:exceed|limit)|mail ?(?:folder|box|file|spool) is full|(?:user|mailbox|inbox|folder).{0,20} is full|"
        r"inbox is full|quota.{0,40}(?:exceed|überschr|dépass|superad|plein|full)|has exceeded (?:his|her|their|its|the) (?:\w{1,12} )?(?:mailbox|quota|limit|storage|space|disk|account)|"
        r"account is full|postfach.{0,40}voll|speicherplatz|bo[iî]te .{0,40}pleine|bo[iî]te aux lettres .{0,20}satur|"
        r"buz[oó]n .{0,20}llen|casella .{0,30}piena|caixa .{0,30}(?:cheia|lotada)|mailbox vol\b|ящик .{0,30}переполн|"
        r"переполнен|skrzynka .{0,30}(?:pełna|przepełniona)|storage (?:limit|quota|full|allocation)|user is over|user has exceeded|exhausted .{0,30}(?:storage|space)|disk full|"
        r"no space left|space has been used up|limite? de (?:almacenamiento|armazenamento|stockage)|邮箱已满|容量不足|容量超|"
        r"メールボックス.{0,20}(?:一杯|いっぱい|超)",
    ),
    (
        "too_big",
        r"message (?:size|length|too (?:large|big))|(?:message|mail|size|content|line|attachment)s? (?:limit )?exceed|"
        r"exceed(?:s|ed|ing)? .{0,50}(?:maximum|fixed|allowed|inbound|incoming).{0,20}size|too (?:large|big)\b|size limit|line limit|"
        r"exceeds (?:the )?(?:maximum|size)|larger than|max(?:imum)? (?:message |mail |file )?size|message file too big|"
        r"zu gro(?:ß|ss)|trop volumineux|taille (?:maximale|limite)|demasiado grande|troppo grande|te groot|MESSAGE_TOO_LARGE|"
        r"максимальн\w{0,4} размер|слишком больш|サイズ.{0,10}(?:超|大き)",
    ),
    ("mailbox_full", r"\bquota\b"),
    ("virus", r"\bvirus|malware|infected|trojan|dangerous (?:attachment|file)|potentially executable"),
    (
        "not_allowed",
        r"not allowed to (?:send|post)|delivery restrict|notauth\b|restricted|not permitted to (?:send|post)|"
        r"only accept(?:s|ing)? (?:mail|messages|e-?mails?) from|sender (?:is )?not (?:on|in) .{0,30}(?:list|safe)|"
        r"not (?:on|in) (?:the|its|their|my) .{0,30}(?:list of senders|approved|safe senders|whitelist|guest list)|"
        r"not pre-?approved|members[- ]only|non-?member|closed (?:mailing )?list|not subscribed|not a member of|you are not allowed|"
        r"authenticat\w{1,4} .{0,30}required to send|RequireSenderAuth|(?:not|nicht) accept\w{0,3} (?:any )?(?:mail|messages) (?:from|with)|"
        r"sendergroupauth|permission to (?:post|send)|refuses to accept (?:your )?mail|blocked by the recipient|due to user rules|"
        r"recipient preferences",
    ),
    (
        "moved",
        r"no longer (?:on|at|with|employed|works)\b|(?:has )?(?:moved|changed) (?:to|address)|has been replaced by|"
        r"address (?:has )?changed|user has left|new address|left the company|retired|user not local; please try",
    ),
    (
        "mailbox_disabled",
        r"(?:account|mailbox|user|address|recipient|e-?mail).{0,40}(?:disabled|inactive|suspended|deactivated|frozen|"
        r"\blocked\b(?! by)|not active|closed|expired|discontinued|archived|unavailable for delivery)|"
        r"(?:account|mailbox|user|recipient) (?:is |has been |was )(?:temporarily )?blocked|"
        r"(?:disabled|inactive|suspended|deactivated|closed|locked|archived|expired) (?:account|mailbox|user|recipient|address)|"
        r"extended inactivity|temporar(?:y|ily) locked|\bsuspend\b|user is inactive|not? (?:been )?activated|"
        r"dormant|abandoned|inactiv[aeo]\b|disattiv|nieaktywn|zablokowan|inutilizzo|falta de uso|desactiv|заблокирован|отключен|being accepted for this mailbox|deaktiviert|gesperrt|désactivé|destinataire archivee|deshabilitad|disabilitat",
    ),
    (
        "takes_no_mail",
        r"null ?mx|does not accept (?:e?-?mail|any mail)(?! from)|nullmx|not accepting any mail|"
        r"domain (?:of sender address )?.{0,40}does not receive|mail is not accepted|no mail accepted|not accept mail(?! from)",
    ),
    (
        "no_such_domain",
        r"(?:host|domain|hôte|domaine) (?:name )?(?:is )?(?:not found|unknown|does(?:n't| not) exist|non existent|"
        r"lookup failed|must exist|is not reachable)|no such domain|unrouteable (?:mail )?domain|name or service not known|"
        r"nxdomain|unknown (?:mail )?(?:domain|host)|domain not found|bad destination host|couldn't find any host|"
        r"domain .{0,80}(?:does not exist|could(?:n't| not) be found|wasn't found|is unknown)|domain may not exist|"
        r"non-?existent (?:domain|host)|illegal host|host unknown|no such host|domain name not found|no mx\b|"
        r"dns type \W?mx\W? lookup|domäne .{0,40}nicht gefunden|InvalidDomain|DnsDomainDoesNotExist",
    ),
    (
        "relay_denied",
        r"relay(?:ing)?[- ](?:access )?(?:denied|not (?:allowed|permitted)|prohibited|disallowed|restrict)|(?:as an?|open|insecure(?: mail)?|to) relay\b|"
        r"not permitted to relay|we do not relay|cannot relay|relaying|relay attempt|rcpthosts|relay (?:mail|through)|"
        r"not a gateway|not local host|handle mail for(?! that user)|when attempting to send to a non-local|"
        r"isn.?t in my list of allowed|sorry, that domain",
    ),
    ("ambiguous_address", r"not unique|several matches found|ambiguous"),
    (
        "no_such_mailbox",
        r"(?:no such|unknown|invalid|nonexistent|non-existent|undefined|bad destination|bad|"
        r"unrecogni[sz]ed) (?:local )?(?:user|recipient|mailbox|address|account|local[- ]part|e-?mail|person|"
        r"alias|mail drop|virtual user|rcpt)\b(?! syntax)|bad[-_]?recipient|badrcptto|"
        r"no (?:such )?mail ?-?box|no mail box|user mail-?box not found|matches to nameserver query|nessun utente|missing home directory|"
        r"(?:user|recipient|mailbox|account|address|alias|inbox|e-?mail|rcpt).{0,60}(?:unknown|not found|"
        r"not exist|doesn.?t exist|n.t exist|non[- ]?existent|not known|not listed|not local|invalid|not present|"
        r"no longer (?:exist|valid|available|active)|wasn.?t found|couldn.?t be found|could not be found|"
        r"not a (?:valid|known)|unavailable|not available|not recogni[sz]ed|un-?known|not valid|undeliverable|"
        r"not our customer)|"
        r"recipientnotfound|recipnotfound|does not exist|doesn.t exist|no mailbox here|user_?unknown|"
        r"no one (?:here )?by that name|not our customer|unrout(?:e)?able address|not an? (?:active|known|valid) (?:user|address|recipient|mailbox)|"
        r"there is no (?:such )?(?:user|one)|no user|dosn.?t exist|isn.?t a valid|no account|not a known user|"
        r"doesn.?t have an? .{0,60}account|no such person|this user doesn|no such (?:id|name|address)|"
        r"unbekannt|existiert nicht|nicht vorhanden|nicht gefunden|kein(?:e)? (?:postfach|mailbox|empfänger|"
        r"benutzer)|empf\w{1,9} .{0,30}nicht|inconnu|n.existe pas|introuvable|adresse .{0,30}invalide|no existe|"
        r"desconocid|non esiste|sconosciut|inesistente|não existe|nao existe|inexistente|inexistent|desconhecid|"
        r"bestaat niet|onbekend|finns inte|okänd|findes ikke|finnes ikke|ukendt|ukjent|nie istnieje|nieznany|"
        r"neexistuje|neznám|nem létezik|ismeretlen|не существует|не найден|неизвестн|не знайдено|не існує|"
        r"bulunamadı|不存在|找不到|用户不存在|存在しません|見つかりません|リストにありません|宛先不明|존재하지|알 수 없는|"
        r"does not have a (?:final )?e-?mail|invalid final delivery|account not available|user disabled; cannot receive|mailbox unavailable|"
        r"access denied.{0,20}as\(|recipient address(?:es)? rejected ?: access denied|"
        r"verification failed|recipient verif|failed to route the address|no valid recipients|not deliverable to|"
        r"no hay|bad recipient|not a valid user|mail for that user|recipient (?:address )?rejected(?!: .{0,40}polic)",
    ),
    (
        "blocked",
        r"block ?list|black ?list|\brbl\b|dnsbl|dnsrbl|spamhaus|spamcop|barracudacentral|sorbs|uceprotect|spamrats|"
        r"abuseat|blocked using|ip (?:address )?.{0,40}(?:blocked|banned|listed|reputation)|"
        r"\bbanned\b|poor reputation|bad reputation|low reputation|reputation|sender(?:score| ?base)|invaluement|"
        r"blocked by|has been blocked|access (?:to this mail system )?.{0,30}denied due|blocked for abuse|"
        r"connection refused by policy|client host .{0,80}(?:blocked|rejected)|listed (?:at|in|by|on)\b|"
        r"is not allowed to connect|tenant has exceeded|denied by .{0,20}(?:acl|rule)|confirm this mail server|due to abuse|\b(?:OU|SC|DY)-00\d|ips blocked|requires that you verify|too many bounces|weren.t sent\b|go away\b|"
        r"server requires confirmation|refused to talk to me|not currently accepting mail from your ip",
    ),
    (
        "spam",
        r"spam|junk mail|bulk[- ]?(?:e-?mail|advertis)|mass ?mail|phish|content rejected|message (?:content )?rejected|"
        r"message blocked|suspicious|scored|uribl|surbl|high[- ]?probability|undesirable|classified|content filter|"
        r"pattern detection|unwanted",
    ),
    (
        "login",
        r"authentication (?:is )?required|auth(?:entication)? (?:failed|unsuccessful|credentials)|"
        r"username and password not accepted|bad credentials|invalid credentials|login (?:failed|denied)|"
        r"must (?:be authenticated|authenticate)|SmtpClientAuthentication|application-specific password|"
        r"send ?as ?denied|must log ?in|basic authentication is disabled|smtp auth\b",
    ),
    (
        "tls",
        r"must issue a starttls|starttls|tls (?:is )?(?:required|handshake|failed|not available|missing)|not support tls|"
        r"encryption (?:is )?(?:required|needed)|\bssl\b|certificate",
    ),
    (
        "sender_refused",
        r"sender (?:address |email address |verify )?(?:rejected|refused|denied|failed|not (?:accepted|exist|valid|allowed|verified))|"
        r"domain of sender|sender domain|mail from .{0,60}(?:rejected|denied|invalid)|bad sender|invalid sender|unroutable sender|"
        r"sender .{0,40}(?:not exist|unknown|invalid)|from (?:address|header) .{0,40}(?:invalid|not verified|"
        r"rejected)|not verified|return[- ]path .{0,40}(?:invalid|reject)|envelope sender|null sender|backscatter|\bbatv\b|emetteur invalide",
    ),
    ("too_many_recipients", r"too many recipients|recipient limit|recipients? per (?:message|session)|multiple addresses"),
    (
        "bad_address",
        r"bad (?:address|mailbox|recipient) syntax|malformed (?:address|recipient|mailbox|path)|syntax(?: of)? .{0,20}address|invalid address|"
        r"illegal (?:address|character)|not a valid rfc|address syntax|mailbox name not allowed|mailbox syntax|"
        r"invalid characters|rfc ?-?[28]22|mangled|empty (?:e-?mail )?address",
    ),
    ("encoding", r"smtputf8|non-?ascii|internationali[sz]ed|8bitmime|conversion"),
    (
        "content_refused",
        r"attachment|file type|bare (?:lf|line ?feed)|\bmime\b|headers? .{0,40}(?:missing|invalid|malformed|exceed|error)|header error|"
        r"improper(?:ly)?\b|unnecessary base64|messages? (?:missing|without) |not rfc|5322|body .{0,20}(?:reject|type)|"
        r"content (?:type|encoding|refused|denied)|executable",
    ),
    (
        "expired",
        r"queue too long|retry time(?:out)? (?:not reached|exceeded)|expired|retry timeout exceeded|(?:multiple|maximum|many|numerous) (?:retries|attempts)|"
        r"delivery time(?:d)? ?-?out|too long in queue|could not be delivered for|giving up on|delivery timeout|failing for a long time|"
        r"QUEUE\.Expired|time ?-?limit|has been (?:in the queue|trying)|maximum (?:time|retry)|not been collected|"
        r"allowed queue period|delivery failed \d+ attempts|not delivered within|message timed out",
    ),
    (
        "dns_failure",
        r"dns (?:error|fail|lookup|problem|query|temporary)|name server|name service|temporary lookup|"
        r"dns server|mx (?:records?|lookup|host)|lookup failed|could not resolve|domain resolution|unable to resolve",
    ),
    (
        "not_reachable",
        r"connection (?:was )?(?:timed out|refused|reset|dropped|lost|closed|died)|connect(?:ion)? to .{0,80}(?:refused|"
        r"timed|failed)|timed? ?-?out|no route (?:to host|for)|host (?:is )?(?:unreachable|not reachable)|network (?:is )?unreachable|"
        r"lost connection|could ?n.t (?:establish|connect)|could not (?:establish|connect|initiate)|not respond|unable to connect|can.?t connect|"
        r"unreachable|no answer|host .{0,40}not respond|wasn't able to establish|not reachable|"
        r"server .{0,30}(?:down|unavailable)|nicht erreichbar|injoignable|smtp connection failed|find a gateway|failed to deliver to domain",
    ),
    (
        "system_full",
        r"insufficient (?:system )?(?:resources|memory)|system (?:is )?(?:too )?(?:busy|full|load)|"
        r"load (?:average|too high)|server (?:is )?busy|too busy|queue file|mail system full|"
        r"resources? (?:temporarily )?unavailable",
    ),
    (
        "system_error",
        r"internal (?:server )?error|local error|server error|temporary (?:system|server|failure|problem|local)|"
        r"system (?:error|incorrectly|config)|misconfigur|configuration|service (?:is )?(?:currently |temporarily )?(?:not available|unavailable)|"
        r"out of memory|interrupted system call|create user output file|error while being processed|could not load|"
        r"procmail|maildrop|command (?:failed|died|output)|mailer error|pipe to|child status|delivery agent",
    ),
    (
        "policy",
        r"polic(?:y|ies)|not accepted|refused|rejected|denied|not welcome|prohibited|forbidden|administrat|"
        r"unauthori[sz]ed|local (?:policy|reasons)|abuse|security|not authorized|transaction failed|organi[sz]ational settings",
    ),
    ("system_error", r"try (?:again )?later|temporar"),
    ("expired", r"delivery attempts will continue|has been delayed"),
)  # fmt: skip

_PATTERNS: Final = tuple((word, re.compile(pattern, re.IGNORECASE)) for word, pattern in _WORDS)
_SPACES = re.compile(r"\s+")
#: Postfix and Exim put the name of the other host in front; a host called "spam" or "quota" says nothing.
_HOST: Final = re.compile(
    r"\bhost \S{1,255}(?: ?\[[^\]\s]{1,60}\])?(?:,? (?:said|refused)\b|:)|\[(?:\d{1,3}\.){3}\d{1,3}\]", re.IGNORECASE
)


def find_reason(diagnostic: str) -> str | None:
    """Return the reason that the words of the other side name, or None when they say nothing we know."""
    text = _HOST.sub(" ", _SPACES.sub(" ", diagnostic[:MAX_WEIGHED_CHARS]))
    if not text.strip():
        return None
    for word, pattern in _PATTERNS:
        if pattern.search(text):
            return word
    return None
