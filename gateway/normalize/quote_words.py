"""The words by which mail clients introduce what they quote, in some forty languages. Data only, all case-folded.

Collected from the interface texts of Gmail, Outlook, Apple Mail, Thunderbird, Yahoo, Zimbra, Proton Mail, Lotus
Notes, K-9, Samsung, The Bat!, Roundcube, Mail.ru, Foxmail. The logic that weighs them is in ``quotes``.
"""
# ruff: noqa: E501 -- wide characters count double, and these are lists of words

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _phrases(text: str) -> frozenset[str]:
    return frozenset(phrase for line in text.splitlines() for phrase in map(str.strip, line.split(",")) if phrase)


#: "wrote", as one word token; multi-word forms are here by the word that carries them.
VERBS = words("""
wrote writes schrieb schrieben schreibt geschrieben écrit ecrit écrivit écrivait escribió escribio escribe escrito
scritto scrive scrisse escreveu escreve escrita schreef schrijft geschreven skrev skriver skreiv skrifaði reit
kirjoitti kirjoittaa napisana napisał napisała napisal napisala pisze napsal napsala píše pise napísal napísala írta irta írja
scris scrie написа пише пишет писал писала написал написала пишут написав писав пишэ rašė rase parašė rakstīja
rakstija raksta rakstījis kirjutas kirjutab napisao napisala piše pišu написао написала έγραψε εγραψε γράφει yazdı
yazdi yazmış viết كتب كتبت يكتب נכתב כתב כתבה כותב menulis tulis menuliskan escrit escriure escriví idatzi scríobh
ysgrifennodd shkroi citando citazione spake missatge напісаў напіша пиша نوشت لکھا लिखा написва skribis sulat sinulat skrifar zitat quoting quotando
""")

#: The same for scripts that do not put spaces between words.
VERB_PARTS = (
    "写道", "寫道", "写到", "寫到", "写信", "来信", "写了", "撰寫", "さんは書きました", "書きました", "書いた",
    "のメール", "のメッセージ", "さんからの", "님이 작성", "작성:", "작성 :", "님이 쓰신", "쓰셨습니다", "썼습니다",
    "님의 말", "님이 씀", "작성했습니다", "작성하였습니다", "เขียนว่า", "เขียน",
)  # fmt: skip

#: How an attribution starts ("On …", "Am …"). A leading digit or a weekday with a comma counts as well.
OPENERS = words("""
on at am um le el il em a op den på paa dne dňa w u в во на у о dana dnia data ve στις την τις σε pe la på vào lúc
เมื่อ ב ביום בתאריך في بتاريخ pada tanggal 在 于 於 i in zitat quoting kl datum date fecha päivämäärä kuupäeval gada
den: ti dia em: os às ke ond ve: noong quotando citando citazione citat citace 2024年 le: li nr år am: on: missatge
""")

#: "I wrote" and the like: a person speaking, not a client.
PRONOUN_PAIRS = frozenset({
    ("i", "wrote"), ("we", "wrote"), ("he", "wrote"), ("she", "wrote"), ("they", "wrote"), ("you", "wrote"),
    ("who", "wrote"), ("i", "had"), ("i", "also"), ("ve", "written"),
    ("ich", "schrieb"), ("schrieb", "ich"), ("schrieben", "wir"), ("schrieben", "sie"), ("er", "schrieb"),
    ("sie", "schrieb"), ("schrieb", "er"), ("schrieb", "sie"), ("habe", "ich"), ("ich", "geschrieben"),
    ("ai", "écrit"), ("avons", "écrit"), ("avez", "écrit"), ("ho", "scritto"), ("hai", "scritto"),
    ("avete", "scritto"), ("he", "escrito"), ("has", "escrito"), ("yo", "escribí"), ("ik", "schreef"),
    ("schreef", "ik"), ("heb", "geschreven"), ("jag", "skrev"), ("skrev", "jag"), ("jeg", "skrev"),
    ("skrev", "jeg"), ("du", "skrev"), ("skrev", "du"), ("я", "написал"), ("я", "написала"), ("я", "писал"),
    ("я", "писала"), ("мы", "писали"), ("вы", "писали"), ("вы", "написали"), ("ты", "писал"), ("am", "scris"),
    ("wrote", "me"), ("wrote", "us"), ("schrieb", "mir"), ("schrieb", "uns"), ("me", "escribió"), ("nos", "escribió"),
    ("schreef", "mij"), ("schreef", "ons"), ("мне", "написал"), ("мне", "написала"), ("mi", "ha"), ("ci", "ha"),
    ("ați", "scris"), ("já", "napsal"), ("sem", "napisal"), ("sam", "napisao"), ("sam", "napisala"),
})  # fmt: skip

#: Lower-case words that may stand between the verb and the name or the date of an attribution.
JOINERS = words("""
von vom van der den de la le el il di da do dos das du des on at am um a à as às o en em kl kl. klo och og i the by
pm uhr via bin ben al lo los te ter zu zum und and e y et pri dne ob o u w в на в от от pe ore orele ora ve h hrs est
edt cest cet gmt utc mez mesz következőt időpont
""")

FROM, DATE, TO, SUBJECT, OTHER = "from", "date", "to", "subject", "other"

_LABELS = {
    FROM: """from, von, de, da, van, från, fra, lähettäjä, od, feladó, de la, expéditeur, от, від, nuo, no, saatja,
        šalje, expeditorul, від кого,
        kellelt, από, kimden, gönderen, 发件人, 寄件者, 寄件人, 發件人, 差出人, 送信者, 送信元, 보낸 사람, 보낸사람, 발신,
        발신자, từ, người gửi, จาก, ผู้ส่ง, מאת, من, المرسل, dari, pengirim, remitente, mittente, afzender, avsändare,
        absender, sender, remetente, nadawca, odesílatel, odosielateľ, отправитель, відправник, expeditor, изпращач,
        siuntėjas, sūtītājs, pošiljatelj, pošiljalac, пошиљалац, шаље, од, frá, de:, αποστολέας, az, نویسنده, از""",
    DATE: """sent, date, gesendet, datum, envoyé, envoyé le, date d'envoi, enviado, enviado el, fecha, enviada em,
        enviado em, enviada, data, inviato, data invio, verzonden, verzonden op, skickat, sendt, dato, lähetetty,
        päiväys, päivämäärä, wysłano, data wysłania, odesláno, odoslané, dátum, elküldve, küldve, trimis, trimis la, dată,
        изпратено, дата, отправлено, дата отправки, надіслано, дата надсилання, išsiųsta, siųsta, data:, nosūtīts,
        datums, saadetud, kuupäev, saatmisaeg, poslano, poslato, послато, датум, στάλθηκε, ημερομηνία, αποστολή,
        gönderildi, gönderme tarihi, gönderilme tarihi, tarih, 发送时间, 发送日期, 日期, 寄件日期, 傳送時間, 傳送日期, 時間, 时间,
        送信日時, 送信日, 日付, 日時, 보낸 날짜, 보낸날짜, 날짜, 일시, 전송 날짜, đã gửi, ngày, ngày gửi, วันที่, ส่งเมื่อ, ส่ง, נשלח, תאריך,
        تاريخ الإرسال, التاريخ, أرسلت, تم الإرسال, أُرسلت, تاريخ, dikirim, tanggal, terkirim, enviat, dags, sent at,
        date sent, received, datum en tijd, bidalia, sendt den, skickat den, sended""",
    TO: """to, an, à, a, para, aan, till, til, vastaanottaja, do, komu, pre, címzett, către, catre, destinataire, до,
        кому, kam, kellele, saaja, adresaat, za, prima, primatelj, προς, kime, alıcı, 收件人, 收件者, 宛先, 受信者, 送信先,
        받는 사람, 받는사람, 수신, 수신자, đến, tới, người nhận, ถึง, ผู้รับ, אל, לנמענים, إلى, الى, المستلم, kepada, ke, untuk,
        destinatario, destinatário, destinatarul, pour, ontvanger, mottagare, empfänger, odbiorca, adresat, příjemce, príjemca,
        получатель, одержувач, destinatar, получател, gavėjas, saņēmējs, prejemnik, primalac, прима, за, παραλήπτης,
        per, a:, til:""",
    SUBJECT: """subject, betreff, objet, asunto, oggetto, assunto, onderwerp, ämne, emne, aihe, otsikko, temat, předmět,
        predmet, tárgy, subiect, subiectul, относно, тема, tema, temats, teema, zadeva, naslov, θέμα, konu, 主题, 主旨, 主題, 标题,
        標題, 件名, 題名, 표제, 제목, chủ đề, tiêu đề, เรื่อง, หัวเรื่อง, נושא, הנדון, الموضوع, موضوع, subjek, perihal, judul, efni,
        assumpte, betr, betrifft, sujet, argomento, предмет, наслов, gaia""",
    OTHER: """cc, bcc, kopie, kopia, kopi, kopio, copie, copia, cópia, másolat, копия, копія, копие, cci, cco, ccn, bkk,
        kopija, koopia, κοιν, κοινοποίηση, bilgi, 抄送, 副本, 密件副本, ccへ, 참조, 숨은참조, đồng gửi, สำเนา, עותק, העתק, نسخة,
        tembusan, reply-to, reply to, antwort an, répondre à, responder a, rispondi a, svar till, importance,
        wichtigkeit, prioriteit, priority, priorität, importancia, importance:, attachments, anlagen, anhänge,
        pièces jointes, attach, anexos, adjuntos, allegati, bijlagen, organization, organisation, message-id, thema,
        resent-from, gesendet von, sent by, kopi til, kopie aan""",
}  # fmt: skip

#: Label of a header line -> its kind. A word that means two things stands where it is met first.
LABELS: dict[str, str] = {}
for _kind, _text in _LABELS.items():
    for _label in _phrases(_text):
        LABELS.setdefault(_label.rstrip(":"), _kind)

#: What stands between dashes over the message that is answered or forwarded.
SEPARATORS = _phrases("""
reply message, antwort nachricht, antwortnachricht, original message, original mail, original email, original e-mail, originale nachricht, ursprüngliche nachricht
ursprüngliche mail, ursprüngliche e-mail, original-nachricht, originalnachricht, originalmail, urspr. nachricht
original nachricht, message d'origine, message d’origine, message original, message initial, mail original, courriel original
mensaje original, correo original, mensagem original, messaggio originale, messaggio originario, messaggio d'origine
oorspronkelijk bericht, oorspronkelijke bericht, origineel bericht, originalmeddelande, ursprungligt meddelande
oprindelig meddelelse, original meddelelse, oprindelig besked, opprinnelig melding, original melding
alkuperäinen viesti, alkuperäinen sähköposti, wiadomość oryginalna, oryginalna wiadomość, treść oryginalnej wiadomości
původní zpráva, původní e-mail, pôvodná správa, eredeti üzenet, eredeti levél, mesaj original, mesajul original
mesaj inițial, оригинално съобщение, исходное сообщение, исходное письмо, пересылаемое сообщение, оригинал сообщения
первоначальное сообщение, оригинальное сообщение, оригінальне повідомлення, вихідне повідомлення
originalus laiškas, pradinis pranešimas, originali žinutė, pirminis laiškas, oriģinālais ziņojums, sākotnējais ziņojums
algne kiri, originaalkiri, algsõnum, algne sõnum, izvirno sporočilo, originalna poruka, izvorna poruka
оригинална порука, изворна порука, αρχικό μήνυμα, πρωτότυπο μήνυμα, orijinal mesaj, özgün ileti, orijinal ileti
原始邮件, 原始郵件, 原邮件, 邮件原件, 原始信件, 原始訊息, 原始消息, 回复的原邮件, 回复的邮件, 元のメッセージ, オリジナルメッセージ, 元のメール
원본 메시지, 원본 메일, 원본메시지, 원본메일, thư gốc, tin nhắn gốc, thông điệp gốc, ข้อความต้นฉบับ, ข้อความเดิม
הודעה מקורית, ההודעה המקורית, הודעת המקור, الرسالة الأصلية, رسالة أصلية, الرسالة الاصلية, pesan asli, pesan awal, missatge original
forwarded message, forwarded mail, forwarded email, forward message, weitergeleitete nachricht, weitergeleitete mail, message transféré
message transmis, message réexpédié, mensaje reenviado, mensagem encaminhada, mensagem reencaminhada, messaggio inoltrato
doorgestuurd bericht, doorgestuurde bericht, vidarebefordrat meddelande, vidarebefordrat brev, videresendt meddelelse
videresendt besked, videresendt melding, välitetty viesti, edelleenlähetetty viesti, wiadomość przekazana
przekazana wiadomość, wiadomość przesłana dalej, přeposlaná zpráva, preposlaná správa, továbbított üzenet
továbbított levél, mesaj redirecționat, mesaj redirecţionat, препратено съобщение, перенаправленное сообщение
пересланное сообщение, переслане повідомлення, persiųstas laiškas, persiųsta žinutė, pārsūtītais ziņojums, edastatud kiri
edastatud sõnum, posredovano sporočilo, proslijeđena poruka, prosleđena poruka, прослеђена порука, προωθημένο μήνυμα
προωθούμενο μήνυμα, iletilen mesaj, yönlendirilmiş ileti, yönlendirilen ileti, iletilmiş mesaj, 转发的邮件, 已转发邮件
转发邮件, 转发邮件信息, 轉寄郵件, 已轉寄郵件, 转发的消息, 転送メッセージ, 転送されたメッセージ, 轉寄的郵件, 전달된 메시지, 전달된 메일, 전달 메시지
thư đã chuyển tiếp, tin nhắn đã chuyển tiếp, ข้อความที่ส่งต่อ, ข้อความที่ถูกส่งต่อ, הודעה שהועברה, הודעה מועברת, رسالة محولة
الرسالة المعاد توجيهها, رسالة معاد توجيهها, الرسالة المحولة, pesan terusan, pesan yang diteruskan, missatge reenviat
""")

#: Lines of Apple Mail and others that open a forward without dashes.
FORWARD_LINES = _phrases("""
begin forwarded message, forwarded message, anfang der weitergeleiteten nachricht, anfang der weitergeleiteten e-mail
début du message transféré, début du message réexpédié, inicio del mensaje reenviado, comienzo del mensaje reenviado
inizio messaggio inoltrato, início da mensagem encaminhada, início da mensagem reencaminhada, begin doorgestuurd bericht
vidarebefordrat brev, vidarebefordrat mejl, start på videresendt besked, videresendt besked, start på videresendt melding
välitetty viesti alkaa, początek przekazywanej wiadomości, začátek přeposílané zprávy, továbbított levél kezdete
începutul mesajului redirecționat, začátek přesměrované zprávy, začiatok preposlanej správy, začiatok presmerovanej správy
započni proslijeđenu poruku, početak proslijeđene poruke, începe mesajul redirecționat, videresendt melding
begynnelse på videresendt melding, ileti başlangıcı, inici del missatge reenviat, videresendt e-mail
начало переадресованного сообщения, початок листа, що пересилається
αρχή προωθημένου μηνύματος, iletilmiş mesajın başı, 以下是转发的邮件, 开始转发的邮件, 開始轉寄郵件, 転送されたメッセージ
전달된 메시지, bắt đầu tin nhắn được chuyển tiếp, เริ่มข้อความที่ส่งต่อ, תחילת ההודעה שהועברה, بداية الرسالة المحولة, mulai pesan terusan
""")

#: "reply above this line", the marker a help desk puts on top of what it sends.
REPLY_ABOVE = (
    "above this line", "above the line", "above this text", "above line", "oberhalb dieser linie",
    "oberhalb dieser zeile", "über dieser linie", "über dieser zeile", "über diese linie", "über diese zeile",
    "au-dessus de cette ligne", "au dessus de cette ligne", "encima de esta línea", "por encima de esta linea",
    "arriba de esta línea", "sopra questa riga", "sopra questa linea", "acima desta linha", "acima dessa linha",
    "boven deze regel", "boven deze lijn", "ovanför den här raden", "ovanför denna rad", "over denne linje",
    "over denne linjen", "tämän rivin yläpuolelle", "powyżej tej linii", "nad tą linią", "nad tento řádek",
    "nad touto čarou", "nad tento riadok", "e sor fölé", "a vonal fölé", "deasupra acestei linii", "над тази линия",
    "над този ред", "выше этой линии", "над этой линией", "над этой строкой", "выше этой строки", "вище цієї лінії",
    "над цією лінією", "virš šios eilutės", "virs šīs līnijas", "selle rea kohale", "nad to vrstico",
    "iznad ove linije", "изнад ове линије", "πάνω από αυτή τη γραμμή", "bu satırın üzerine", "bu çizginin üzerine",
    "在此行上方", "请在此线上方", "在此線上方", "この行より上", "この線より上", "이 줄 위에", "이 선 위에", "phía trên dòng này",
    "เหนือบรรทัดนี้", "מעל שורה זו", "מעל לשורה זו", "فوق هذا السطر", "أعلى هذا السطر", "di atas baris ini",
)  # fmt: skip

#: "sent (from)": the first or last word of the line a phone puts under a mail.
SENT_WORDS = words("""
sent gesendet envoyé envoye enviado enviada inviato inviata verzonden verstuurd skickat skickades sendt lähetetty
wysłane wysłano odesláno odoslané küldve elküldve trimis изпратено отправлено надіслано відправлено išsiųsta siųsta
nosūtīts sūtīts saadetud poslano poslato послато στάλθηκε εστάλη απεσταλμένο gönderildi gönderilmiştir gönderdim
נשלח أُرسلت أرسلت مرسل مُرسل dikirim enviat envoyée enviados từ đã napisano diese von lähetin verschickt get holen
téléchargez télécharger obtener obtén descargar scarica ottieni baixar baixe obter obtenha download skaffa hämta hent
få hanki pobierz získat získajte obțineți скачать получить descarcă lataa εξερευνήστε λήψη indir edinin dapatkan tải
posted provenance αποστολή versendet postato composed written typed absent diproses przesłano envoyé: sent: скачайте отримати send mailed
""")

SENT_PARTS = ("发自", "發自", "寄自", "来自我", "來自我", "传送自", "傳送自", "发送自", "从我的", "從我的", "から送信", "から送付", "에서 보냄",
              "에서 보낸", "에서 발송", "ส่งจาก", "取得", "获取", "を入手")  # fmt: skip

#: What such a line names: lower case, matched as part of the line.
DEVICES = (
    "iphon", "ipad", "ipod", "ios", "apple watch", "samsung", "galaxy", "android", "blackberry", "huawei", "xiaomi",
    "redmi", "oneplus", "oppo", "vivo", "nokia", "motorola", "pixel", "windows phone", "windows 8", "windows 10", "windows 11", "windows mail",
    "for windows", "für windows", "pour windows", "para windows", "per windows", "voor windows", "til windows",
    "för windows", "pro windows", "dla systemu windows", "для windows", "alcatel", "verizon", "t-mobile", "sprint", "smartphone", "mobile device", "mobile phone", "mobilgerät",
    "handy", "telefon", "teléfono", "móvil", "mobil", "cellulare", "mobiel", "outlook", "yahoo", "proton", "tutanota",
    "tuta", "k-9", "k9", "gmx", "web.de", "gmail", "aol", "thunderbird", "spark", "airmail", "mailspring", "fairemail",
    "bluemail", "blue mail", "mymail", "mail.ru", "yandex", "яндекс", "телефона", "телефон", "superhuman", "hey.com",
    "icloud", "canary", "edison", "newton", "zoho", "zimbra", "mailbird", "em client", "mac", "htc", "lg ", "sony",
    "xperia", "lumia", "手机", "手機", "邮箱", "mobilní", "puhelim", "nine", "my phone", "a phone", "my cell", "cell phone", "sparrow", "acompli", "fastmail", "mailbox", "mon mobile", "mon portable",
    "orange", "laposte", "seznam", "libero", "posteo", "mailo", "front", "typeapp", "aqua mail", "aquamail", "tablet",
)  # fmt: skip

#: The words of SENT_WORDS that ask to fetch a program; they need one of ``FETCH_FOR`` or a link to be a signature.
FETCH_WORDS = words("""
get holen téléchargez télécharger obtener obtén descargar scarica ottieni baixar baixe obter obtenha download skaffa
hämta hent få hanki pobierz získat získajte obțineți скачать получить descarcă lataa λήψη indir edinin dapatkan tải
скачайте отримати
""")
FETCH_FOR = words("""
for para pour für per voor til för på dla pro pre для за pentru για için untuk cho
""")
