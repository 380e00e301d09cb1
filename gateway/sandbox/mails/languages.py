"""Customers who write plainly, each in their own language and the charset of their old mail program."""

from __future__ import annotations

from typing import Final

from gateway.sandbox.mails.scene import Scene, text_mail

BULGARIAN: Final = Scene(
    name="bulgarian-windows-1251",
    person="Десислава Петрова",
    address="desislava.petrova@customer.test",
    build=text_mail(
        "Счупен чайник, поръчка 48213",
        """
Здравейте,

вчера получих керамичния чайник от поръчка 48213, но дръжката е счупена. Кашонът
беше смачкан от едната страна, куриерът каза, че така го е получил.

Бихте ли ми изпратили нов, или да го върна и да ми възстановите сумата? Имам снимки,
ако са нужни.

Поздрави,
Десислава Петрова
Пловдив
""",
        charset="windows-1251",
        mailer="Microsoft Outlook Express 6.00.2900.5931",
    ),
    follow_up="Забравих да напиша: номерът на товарителницата е 1051 7730 22. Кашонът още е при мен.",
    replies=(
        "Благодаря за бързия отговор! Предпочитам нов чайник, ако имате на склад син цвят.",
        "Чудесно, ще чакам куриера. Хубав ден!",
    ),
)

BULGARIAN_KOI8: Final = Scene(
    name="bulgarian-koi8-r",
    person="Георги Стоянов",
    address="georgi@example.test",
    build=text_mail(
        "Фактура за март",
        """
Добър ден,

за плащането от 14 март още нямам фактура. Фирмата е Стоянов и синове ЕООД,
адресът е същият като за доставка. Може ли да я получа до края на седмицата,
защото счетоводителката ми вече пита два пъти?

Георги Стоянов
""",
        charset="koi8-r",
        encoding="as it is",
    ),
    replies=("Получих я, благодаря. Само в името липсва думата синове, може ли да се поправи?",),
)

LITHUANIAN: Final = Scene(
    name="lithuanian-windows-1257",
    person="Rūta Kazlauskienė",
    address="ruta.kazlauskiene@customer.test",
    build=text_mail(
        "Siunta vėluoja jau savaitę",
        """
Laba diena,

užsakymas 48177 turėjo atkeliauti praėjusį antradienį, bet siuntos sekimo puslapis
vis dar rodo „Paruošta išsiųsti“. Lempa yra dovana, gimtadienis – šį šeštadienį.

Ar galite patikrinti, kas nutiko? Jei nespėsite, norėčiau užsakymą atšaukti.

Ačiū ir gražios dienos
Rūta
""",
        charset="windows-1257",
    ),
    replies=("Labai ačiū, nuraminote! Ar siunta bus su sekimo numeriu?",),
)

SLOVENIAN: Final = Scene(
    name="slovenian-iso-8859-2",
    person="Mojca Zupančič",
    address="mojca.zupancic@customer.test",
    build=text_mail(
        "Napačna velikost predpražnika",
        """
Pozdravljeni,

naročila sem predpražnik 60 x 90 (naročilo 48251), prišel pa je manjši, 40 x 60.
Na škatli je sicer pravilna nalepka, zato mislim, da je napaka nastala že v skladišču.

Kako ga lahko zamenjam? Živim v Žalcu, najbližja pošta je pet minut stran.

Lep pozdrav,
Mojca Zupančič
""",
        charset="iso-8859-2",
    ),
    replies=("Hvala! Paket bom oddala jutri zjutraj. Ali moram priložiti račun?",),
)

HUNGARIAN: Final = Scene(
    name="hungarian-iso-8859-2-base64",
    person="Szőllősi Eszter",
    address="eszter@customer.test",
    build=text_mail(
        "Kétszer vonták le az összeget",
        """
Jó napot kívánok!

A 48260-as rendelésnél a bankom szerint kétszer is levonták a 18 490 forintot,
pedig csak egyszer nyomtam meg a gombot. A második fizetés után hibaüzenetet kaptam,
és az oldal visszadobott a kosárhoz.

Kérem, nézzenek utána, és a tévesen levont összeget küldjék vissza.

Üdvözlettel:
Szőllősi Eszter
""",
        charset="iso-8859-2",
        encoding="base64",
    ),
    follow_up="Közben a bank is megerősítette: mindkét terhelés könyvelve van, nem csak zárolás.",
    replies=("Köszönöm, megnyugodtam. Nagyjából hány nap, amíg megérkezik a számlámra?",),
)

JAPANESE: Final = Scene(
    name="japanese-iso-2022-jp",
    person="佐藤 美咲",
    address="misaki.sato@example.test",
    build=text_mail(
        "注文48198の届け先変更について",
        """
お世話になっております。
佐藤と申します。

先日注文した急須(注文番号48198)ですが、引っ越しのため届け先を
変更していただくことは可能でしょうか。

新しい住所は次のとおりです。
〒604-8005 京都市中京区恵比須町 12-3

発送後でしたら、こちらで転送の手続きをいたします。
お手数をおかけしますが、よろしくお願いいたします。

佐藤 美咲
""",
        charset="iso-2022-jp",
        mailer="Shuriken Pro7",
    ),
    replies=("早速のご返信ありがとうございます。それでは新しい住所でお願いいたします。",),
)

CHINESE: Final = Scene(
    name="chinese-gb18030",
    person="陈晓梅",
    address="xiaomei.chen@customer.test",
    build=text_mail(
        "台灯的插头不合适",
        """
您好:

我上周收到了订单 48226 的台灯,灯很漂亮,但是插头是英式三脚的,家里用不了。
网页上写的是“附带当地插头”,我下单时地址填的是杭州。

请问可以补寄一个国标插头吗?或者我自己买转换器,你们退一点差价也可以。

谢谢!
陈晓梅
""",
        charset="gb18030",
        encoding="base64",
        mailer="Foxmail 7.2.25.375[cn]",
    ),
    replies=("好的,那就麻烦补寄一个插头。地址不变。",),
)

SALES_QUESTION: Final = Scene(
    name="english-sales",
    person="Tom Okafor",
    address="tom.okafor@example.test",
    to="sales@desk.test",
    build=text_mail(
        "120 mugs for our office - is engraving possible?",
        """
Hi there,

we are moving into a new office in June and would like to give everybody one of your
stoneware mugs (the grey ones, 350 ml). That would be about 120 pieces.

Two questions:
1. Do you engrave a small logo on the side? I can send a vector file.
2. Is there a price for that number, and how long would it take?

We would need them by 12 June at the latest.

Many thanks
Tom

--\x20
Tom Okafor | Office manager
Harbour Lane Studios
""",
        charset="us-ascii",
        encoding="as it is",
        mailer="Apple Mail (2.3774.600.62)",
    ),
    follow_up="One more thing: the mugs have to be dishwasher safe, engraving included. Are they?",
    replies=(
        "That was quick, thank you! Could you put the offer in writing, with delivery to our new address? "
        "It is 14 Harbour Lane, second floor.",
        "Perfect, I have forwarded it to our director. You should hear from us before Friday.",
    ),
)
