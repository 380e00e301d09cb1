"""The language of a message: one sentence of a customer in each, and texts that have none."""

from __future__ import annotations

import pytest

from gateway.normalize import language

SENTENCES = {
    "en": "Hello, I ordered two weeks ago and my parcel has not arrived yet. Could you tell me where it is?",
    "de": "Guten Tag, ich habe vor zwei Wochen bestellt und mein Paket ist noch nicht angekommen.",
    "fr": "Bonjour, j'ai passé une commande il y a deux semaines et je n'ai toujours rien reçu.",
    "es": "Hola, hice un pedido hace dos semanas y todavía no ha llegado. ¿Me pueden ayudar?",
    "it": "Buongiorno, ho fatto un ordine due settimane fa e non è ancora arrivato. Potete aiutarmi?",
    "pt": "Olá, fiz uma encomenda há duas semanas e ainda não chegou. Podem ajudar-me, por favor?",
    "nl": "Goedendag, ik heb twee weken geleden iets besteld en het is nog niet aangekomen.",
    "sv": "Hej, jag beställde för två veckor sedan och paketet har inte kommit än. Kan ni hjälpa mig?",
    "no": "Hei, jeg bestilte for to uker siden og pakken har ikke kommet ennå. Kan dere hjelpe meg?",
    "da": "Hej, jeg bestilte for to uger siden, og pakken er ikke kommet endnu. Kan I hjælpe mig?",
    "fi": "Hei, tilasin tuotteen kaksi viikkoa sitten, mutta se ei ole vielä saapunut. Voitteko auttaa?",
    "pl": "Dzień dobry, zamówiłem produkt dwa tygodnie temu i jeszcze nie dotarł. Proszę o pomoc.",
    "cs": "Dobrý den, objednal jsem si zboží před dvěma týdny a ještě nedorazilo. Můžete mi prosím pomoci?",
    "sk": "Dobrý deň, objednal som si tovar pred dvoma týždňami a ešte neprišiel. Môžete mi prosím pomôcť?",
    "hu": "Jó napot, két hete rendeltem egy terméket, de még nem érkezett meg. Kérem, segítsenek.",
    "ro": "Bună ziua, am comandat acum două săptămâni și nu am primit încă nimic. Mă puteți ajuta?",
    "bg": "Здравейте, поръчах преди две седмици и още не съм получил нищо. Може ли да ми помогнете?",
    "ru": "Здравствуйте, я сделал заказ две недели назад, но он до сих пор не пришёл. Помогите, пожалуйста.",
    "uk": "Добрий день, я зробив замовлення два тижні тому, але воно ще не прийшло. Допоможіть, будь ласка.",
    "lt": "Laba diena, užsisakiau prieš dvi savaites ir vis dar negavau. Ar galite man padėti?",
    "lv": "Labdien, es pasūtīju pirms divām nedēļām un vēl neko neesmu saņēmis. Vai varat man palīdzēt?",
    "et": "Tere, tellisin kauba kaks nädalat tagasi, aga see ei ole veel kohale jõudnud. Kas saate aidata?",
    "sl": "Pozdravljeni, pred dvema tednoma sem naročil izdelek in še vedno ni prispel. Mi lahko pomagate?",
    "hr": "Poštovani, naručio sam prije dva tjedna i još nisam ništa primio. Možete li mi pomoći?",
    "sr": "Поштовани, наручио сам пре две недеље и још нисам ништа добио. Можете ли да ми помогнете?",
    "el": "Καλημέρα, παρήγγειλα πριν από δύο εβδομάδες και δεν έχω λάβει τίποτα ακόμα.",
    "tr": "Merhaba, iki hafta önce sipariş verdim ama henüz elime ulaşmadı. Yardımcı olur musunuz?",
    "zh": "您好,我两周前下了订单,但是还没有收到货。请帮我查一下。",
    "ja": "こんにちは。二週間前に注文しましたが、まだ届いていません。確認をお願いします。",
    "ko": "안녕하세요. 2주 전에 주문했는데 아직 도착하지 않았습니다. 확인 부탁드립니다.",
    "vi": "Xin chào, tôi đã đặt hàng cách đây hai tuần nhưng vẫn chưa nhận được. Vui lòng giúp tôi.",
    "th": "สวัสดีครับ ผมสั่งซื้อสินค้าเมื่อสองสัปดาห์ก่อนแต่ยังไม่ได้รับ",
    "he": "שלום, הזמנתי לפני שבועיים ועדיין לא קיבלתי את המשלוח. אפשר לעזור?",
    "ar": "مرحبا، لقد طلبت قبل أسبوعين ولم يصل الطلب بعد. هل يمكنكم مساعدتي؟",
    "fa": "سلام، من دو هفته پیش سفارش دادم ولی هنوز چیزی دریافت نکرده‌ام.",
    "hi": "नमस्ते, मैंने दो हफ्ते पहले ऑर्डर किया था लेकिन अभी तक नहीं मिला है।",
    "id": "Halo, saya sudah memesan dua minggu yang lalu tetapi pesanan belum sampai. Tolong dibantu.",
    "ca": "Bon dia, vaig fer una comanda fa dues setmanes i encara no ha arribat. Em podeu ajudar?",
    "is": "Góðan daginn, ég pantaði vöru fyrir tveimur vikum og hún er ekki enn komin. Getið þið hjálpað mér?",
}
#: The same people writing less.
SHORT = {
    "en": "Thanks, that works for me.",
    "de": "Vielen Dank, das ist gut.",
    "fr": "Merci beaucoup pour votre aide.",
    "es": "Muchas gracias por la ayuda.",
    "it": "Grazie mille per la risposta.",
    "pt": "Muito obrigado pela ajuda, não preciso de mais nada.",
    "nl": "Dank je wel voor de hulp, het werkt nu.",
    "sv": "Tack så mycket, nu fungerar det.",
    "pl": "Dziękuję bardzo, teraz już działa.",
    "cs": "Děkuji, už to funguje.",
    "ru": "Спасибо, теперь всё работает.",
    "uk": "Дякую, тепер усе працює.",
    "tr": "Teşekkürler, şimdi çok iyi çalışıyor.",
    "zh": "谢谢你的帮助",
    "ja": "ありがとうございます",
    "ko": "감사합니다",
    "fa": "سلام، سفارش من کجاست؟",
}


@pytest.mark.proves("R2.6")
@pytest.mark.parametrize(("code", "text"), SENTENCES.items())
def test_sentence_is_recognised(code: str, text: str) -> None:
    assert language.detect(text) == code


@pytest.mark.proves("R2.6")
@pytest.mark.parametrize(("code", "text"), SHORT.items())
def test_short_thanks_are_recognised(code: str, text: str) -> None:
    assert language.detect(text) == code


@pytest.mark.proves("R2.6")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "ok",
        "12345",
        "https://shop.test/order/77?lang=de",
        "jane@customer.test",
        "+1",
        "👍👍👍",
        "SKU-7781 XJ 900",
    ],
)
def test_what_has_no_language_gets_none(text: str) -> None:
    assert language.detect(text) is None


@pytest.mark.proves("R2.6")
def test_foreign_names_and_links_do_not_change_the_language() -> None:
    text = "Hello, I bought the 東京 lamp at https://laden.example/der/die/das and it is broken. Müller & Søn sold it."
    assert language.detect(text) == "en"


@pytest.mark.proves("R2.6", "T-D12")
def test_only_the_beginning_of_a_long_text_is_read() -> None:
    text = SENTENCES["de"] * 50
    assert language.detect(text[: language.MAX_CHARS] + SENTENCES["ru"] * 100_000) == "de"
