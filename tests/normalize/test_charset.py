"""Bytes to text: labels that lie, and the gate that keeps text storable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.normalize import charset

SAMPLES = [
    ("utf-8", "Grüße aus Köln – schöne Ostern"),
    ("iso-8859-1", "Grüße aus Köln"),
    ("windows-1252", "“Grüße” – 5 €"),
    ("iso-8859-15", "prix: 5 €, cœur"),
    ("iso-8859-2", "Zażółć gęślą jaźń"),
    ("windows-1250", "Příliš žluťoučký kůň"),
    ("koi8-r", "Здравствуйте, где мой заказ?"),
    ("koi8-u", "Доброго дня, де моє замовлення? Ґанок"),
    ("windows-1251", "Здравствуйте, где мой заказ?"),
    ("windows-1253", "Καλημέρα, πού είναι η παραγγελία;"),
    ("windows-1254", "İyi günler, siparişim nerede? ğş"),
    ("windows-1255", "שלום, היכן ההזמנה שלי"),
    ("windows-1256", "مرحبا، أين طلبي"),
    ("windows-1257", "Labas rytas, ačiū už žinutę"),
    ("windows-1258", "Xin chào"),
    ("gb2312", "您好,我的订单在哪里"),
    ("gbk", "您好,朱镕基"),
    ("gb18030", "您好 𠀀"),
    ("big5", "您好,我的訂單在哪裡"),
    ("euc-kr", "안녕하세요 주문이 어디에"),
    ("ks_c_5601-1987", "안녕하세요 똠방각하"),
    ("cp949", "똠방각하 펲시콜라"),
    ("shift_jis", "こんにちは、注文はどこですか"),
    ("euc-jp", "こんにちは、注文はどこですか"),
    ("iso-2022-jp", "こんにちは、注文はどこですか"),
    ("iso-2022-kr", "안녕하세요"),
    ("tis-620", "สวัสดีครับ"),
    ("utf-16", "Grüße 您好"),
    ("utf-16-le", "Grüße aus Köln"),
    ("utf-16-be", "Grüße aus Köln"),
    ("utf-32", "Grüße"),
    ("macintosh", "Grüße"),
    ("cp850", "Grüße"),
]


@pytest.mark.proves("R2.1")
@pytest.mark.parametrize(("label", "text"), SAMPLES, ids=[label for label, _ in SAMPLES])
def test_declared_charset_is_read(label: str, text: str) -> None:
    codec = {"macintosh": "mac_roman", "ks_c_5601-1987": "cp949"}.get(label, label)
    assert charset.decode(text.encode(codec), label) == (text, True)


@pytest.mark.proves("R2.1", "T-D05")
@pytest.mark.parametrize(
    ("data", "label", "expected"),
    [
        ("Grüße".encode(), "iso-8859-1", "Grüße"),
        ("Grüße".encode(), "us-ascii", "Grüße"),
        ("ÄäÖöÜü".encode("latin-1") * 9, "iso-8859-1", "ÄäÖöÜü" * 9),
        ("Grüße\n".encode("utf-16") + b"\n", "utf-16", "Grüße\n"),
        ("Grüße".encode(), None, "Grüße"),
        ("5 € “so”".encode("cp1252"), "iso-8859-1", "5 € “so”"),
        ("5 € “so”".encode("cp1252"), "utf-8", "5 € “so”"),
        ("Это письмо написано в старой программе, без указания кодировки".encode("koi8-r"), None, None),
        ("Это письмо написано в старой программе, без указания кодировки".encode("cp1251"), "us-ascii", None),
        ("注文はどこですか、教えてください。よろしくお願いします".encode("shift_jis"), "x-nonsense", None),
        ("こんにちは".encode("iso-2022-jp"), "utf-8", "こんにちは"),
        ("こんにちは".encode("iso-2022-jp"), None, "こんにちは"),
        ("Grüße".encode("utf-8-sig"), "iso-8859-1", "Grüße"),
        (b"plain words", "utf-16", "plain words"),
    ],
)
def test_wrong_or_missing_label_does_not_spoil_the_text(data: bytes, label: str | None, expected: str | None) -> None:
    text, _ = charset.decode(data, label)
    if expected is not None:
        assert text == expected
    else:
        assert text in {
            "Это письмо написано в старой программе, без указания кодировки",
            "注文はどこですか、教えてください。よろしくお願いします",
        }


@pytest.mark.proves("T-D05")
@pytest.mark.parametrize(
    "label",
    [
        "utf-7",
        "idna",
        "hex",
        "rot13",
        "base64",
        "punycode",
        "unicode_escape",
        "raw_unicode_escape",
        "undefined",
        "zip",
        "utf\x00-8x",
        "\x00",
        "x" * 5000,
        "../../etc",
        "",
        " ",
        "unicode-1-1-utf-7",
        "mbcs",
        "oem",
        "bz2",
        "uu",
        "ü",
    ],
)
def test_label_outside_the_list_is_never_used(label: str) -> None:
    assert charset.codec_for(label) is None
    assert charset.decode(b"+ADw-script+AD4- =41", label)[0] == "+ADw-script+AD4- =41"


@pytest.mark.proves("T-D05", "F-Z04")
@pytest.mark.parametrize(
    ("dirty", "cleaned"),
    [("a\x00b", "ab"), ("a\ud800b", "ab"), ("\udc80", ""), ("\ud83d\ude00", "😀"), ("ü\x00", "ü"), ("ok", "ok")],
)
def test_clean_drops_what_stores_refuse(dirty: str, cleaned: str) -> None:
    assert charset.clean(dirty) == cleaned


@pytest.mark.proves("T-D05", "F-Z04", "F-Z01")
@given(
    st.binary(max_size=300), st.one_of(st.none(), st.text(max_size=20), st.sampled_from([one for one, _ in SAMPLES]))
)
def test_any_bytes_with_any_label_give_storable_text(data: bytes, label: str | None) -> None:
    text, _ = charset.decode(data, label)
    assert "\x00" not in text
    text.encode("utf-8")


@given(st.text())
def test_utf8_comes_back_as_it_was(text: str) -> None:
    wanted = charset.clean(text).removeprefix("\ufeff")
    if wanted.isascii():
        return  # seven-bit bytes may be read as ISO-2022
    assert charset.decode(wanted.encode(), "utf-8")[0] == wanted
