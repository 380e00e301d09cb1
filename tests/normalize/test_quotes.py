"""New words, quotes and signatures of plain-text mails, in the forms of the usual clients and many languages."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.normalize.quotes import split_text
from gateway.normalize.values import Reply

REPLIES = Path(__file__).parent / "replies"


def _rows(name: str) -> list[str]:
    lines = (REPLIES / name).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


ATTRIBUTIONS = [tuple(part.strip(" ") for part in row.split(" | ", 2)) for row in _rows("attributions.txt")]
BLOCKS = [
    block.strip("\n").split("\n", 1)
    for block in (REPLIES / "header_blocks.txt").read_text("utf-8").split("\n", 1)[1].split("====\n")
]
SIGNATURE_LINES = [row.split(" | ", 1) for row in _rows("signatures.txt")]


def _filled(text: str) -> list[str]:
    return [line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip()]


def assert_nothing_lost(text: str, reply: Reply) -> None:
    """Every line that is not blank stands in exactly one of the three texts, in its order."""
    wanted = _filled(text)
    parts = [_filled(reply.text), _filled(reply.quoted), _filled(reply.signature)]
    assert sorted(wanted) == sorted(line for part in parts for line in part)
    for part in parts:
        rest = iter(wanted)
        assert all(line in rest for line in part)


@pytest.mark.proves("R2.3")
@pytest.mark.parametrize(("code", "client", "line"), ATTRIBUTIONS, ids=lambda value: str(value)[:24])
def test_attribution_goes_with_the_marked_quote(code: str, client: str, line: str) -> None:
    line = line.replace("⏎", "\n")
    text = f"My new words.\nA second line.\n\n{line}\n\n> old words\n> and more\n"
    reply = split_text(text)
    assert reply.text == "My new words.\nA second line."
    assert reply.quoted == f"{line}\n\n> old words\n> and more"
    assert_nothing_lost(text, reply)


@pytest.mark.proves("R2.3")
@pytest.mark.parametrize(
    ("code", "client", "line"),
    [row for row in ATTRIBUTIONS if not row[1].endswith("quoted")],
    ids=lambda value: str(value)[:24],
)
def test_attribution_without_marks_quotes_all_below(code: str, client: str, line: str) -> None:
    line = line.replace("⏎", "\n")
    text = f"My new words.\n\n{line}\nold words\n\nand more\n"
    reply = split_text(text)
    assert reply.text == "My new words."
    assert reply.quoted == f"{line}\nold words\n\nand more"


@pytest.mark.proves("R2.3")
@pytest.mark.parametrize(("name", "block"), BLOCKS, ids=lambda value: value[:24])
def test_header_block_or_separator_quotes_all_below(name: str, block: str) -> None:
    text = f"My new words.\n\n{block}\n\nold words\n\nand more\n"
    reply = split_text(text)
    assert reply.text == "My new words."
    assert reply.quoted == f"{block}\n\nold words\n\nand more"


@pytest.mark.proves("R2.3")
@pytest.mark.parametrize(("name", "block"), BLOCKS, ids=lambda value: value[:24])
def test_mail_of_a_quote_only_keeps_it_whole(name: str, block: str) -> None:
    text = f"{block}\n\nold words"
    assert split_text(text) == Reply(quoted=text)


@pytest.mark.proves("R2.3")
@pytest.mark.parametrize(("code", "line"), SIGNATURE_LINES, ids=lambda value: value[:24])
def test_line_of_a_phone_is_a_signature(code: str, line: str) -> None:
    text = f"My new words.\n\n{line}\n\nOn 5 May 2024, at 10:00, Jane <jane@customer.test> wrote:\n\n> old words\n"
    reply = split_text(text)
    assert reply.text == "My new words."
    assert reply.signature == line
    assert split_text(f"My new words.\n{line}").signature == line


@pytest.mark.proves("R2.3")
@pytest.mark.parametrize(
    "text",
    [
        "Hello,\nOn Monday I wrote:\nplease repair it.\nNobody answered.",
        "On 12.05.2024 at 10:00 our technician wrote in the log:\nbroken fan\nWhat now?",
        "On 5 May 2024 I wrote:\nplease repair it\nand you did not.",
        "Am 05.05.2024 um 10:00 schrieb ich:\nbitte reparieren\nKeine Antwort bisher.",
        "I need a train.\n\nFrom: Berlin\nTo: Paris\nDate: 5 May 2024, 10:00\n\nThank you",
        "From: Berlin\nTo: Paris\n\nTwo persons please.",
        "From: Jane Doe <jane@customer.test>\nSubject: Broken lamp\n\nMessage Body:\nIt does not work.",
        "Name: Jane\nDate: 5 May 2024\nSubject: Broken lamp\n\nIt does not work.",
        "I run this:\n> npm install foo\nand get an error.",
        "I typed\n> SELECT * FROM orders;\nand then\n> DROP TABLE orders;\nand it broke.",
        ">>> import foo\n>>> foo.bar()\nTraceback",
        "The value is\n>50% of customers\nwhich is bad.",
        "Go to Settings > Account > Delete\nand nothing happens.",
        "My shopping list:\n- lamp\n-- bulb\n- cable\nDone.",
        "| a | b |\n|---|---|\n| 1 | 2 |\nis my table",
        "The photos were sent from my iPhone yesterday, did you get them?",
        "Can I get Outlook for iOS with this licence?",
        "Please write to me@customer.test:\nit is my new address.",
        "The error at 10:00 on 5 May 2024:\nE1234\nPlease help.",
        "Jane wrote a nice review on 5 May 2024 at 10:00: it was good.\nThanks",
        "Original message was lost, please send it again.",
        "---\nA rule\n---\nof my own",
        "As I said: the lamp is broken.\nRegards\nJane",
        "Mit freundlichen Grüßen\nJane Doe",
        "To: whom it may concern\nSubject: nothing",
        "Here is another mail\n\nSent from my desk, is much easier than my mobile phone.",
        "On your remote host you can run:\n\n     telnet 127.0.0.1 52698\n\nThis should connect.",
        'You wrote: "we will refund you". When?',
        "Please send it to jane@customer.test on 05.05.2024 at 10:00:\nthe red one.",
        "You can reach me at jane@customer.test until 5 May 2024, 10:00:\nafter that I am away.",
        "The mail from jane@customer.test of 5 May 2024 10:21 says:\nthe lamp is fine.",
        "Log:\n2024-05-05 10:00:00 jane@customer.test:\nconnection refused",
        "Error at 2024-05-05 10:00:00 jane@customer.test:\nE1234",
        "My boss wrote me on 05/05/2024 10:21:\nsend it back.",
        "El 5 de mayo de 2024 a las 10:21 me escribió el técnico:\nno funciona.",
        "Am 05.05.2024 um 10:21 schrieb mir der Techniker:\ndefekt.",
        "See what On 5 May 2024 means:\nnothing.",
        "We met. On 5 May 2024 our boss wrote to me this:\nwell done.",
        "The offer. On 5 May 2024 I wrote:\nplease repair it.",
        "Please have a look.\n\nGet Outlook working again please.",
        "Date: 2024-05-05 10:00\nTo: Paris\n\nTwo persons please.",
        "Part one\n----- Items -----\n5 apples\n----- Total -----\n5",
    ],
)
def test_own_words_are_not_cut(text: str) -> None:
    assert split_text(text) == Reply(text=text)


@pytest.mark.proves("R2.3")
def test_answers_between_quotes_are_kept_in_order() -> None:
    text = (
        "Hi, see below.\n\nOn 5 May 2024, at 10:00, Desk <d@example.test> wrote:\n\n> Which lamp?\n\nThe red one.\n\n"
        "> Since when?\n> Exactly?\nSince Monday.\n\n> Bye\n\n-- \nJane\n"
    )
    reply = split_text(text)
    assert reply.text == "Hi, see below.\n\nThe red one.\n\nSince Monday."
    assert reply.signature == "--\nJane"
    assert "> Since when?\n> Exactly?" in reply.quoted
    assert_nothing_lost(text, reply)


@pytest.mark.proves("R2.3")
@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("Thanks! On Mon, May 5, 2024 at 10:00 AM, jane@customer.test wrote:\n> old", "Thanks!"),
        ("one\ntwo - three--- On Mon, May 5, 2024 at 10:00 AM, jane@customer.test wrote:\n> old", "one\ntwo - three"),
        ("Danke. Am 05.05.2024 um 10:00 schrieb Jane Doe\n<jane@customer.test>:\nalt", "Danke."),
        ("Merci ! Le lun. 5 mai 2024 à 10:00, Jane <jane@customer.test> a écrit :\n\nvieux", "Merci !"),
        ("Three questions:-------- Original message --------From: Jane <jane@customer.test>\nold", "Three questions:"),
        ("Let us talk.-----Original Message-----\nFrom: Jane\nold", "Let us talk."),
    ],
)
def test_new_words_in_the_line_of_an_attribution_stay_new(text: str, new: str) -> None:
    reply = split_text(text)
    assert reply.text == new
    assert "".join((reply.text + reply.quoted).split()) == "".join(text.split())


@pytest.mark.proves("R2.3")
@pytest.mark.parametrize(
    ("text", "new"),
    [
        (
            f"new\n\nOn 5/5/24 10:00, Desk wrote:\n> {'long words ' * 6}and\nwhatever is left\n> old\n\nbelow",
            "new\n\nbelow",
        ),
        ("new\n\nOn 5/5/24 10:00, Desk wrote:\n> see (http://x.test/a\n_b=1)\n> old\n\nbelow", "new\n\nbelow"),
        ("new\n\nOn 5/5/24 10:00, Desk wrote:\n> Is it red?\nyes\n> Is it big?\nno\n> Bye", "new\n\nyes\n\nno"),
        (f"new\n\nOn 5/5/24 10:00, Desk wrote:\n> {'long words ' * 6}?\nno idea\n> old", "new\n\nno idea"),
        (
            "new\n\nOn 5/5/24 10:00, Desk wrote:\n> Please send us your name and your order number\njane, 4711\n> Bye",
            "new\n\njane, 4711",
        ),
    ],
)
def test_line_that_was_wrapped_out_of_a_quote_goes_back_to_it(text: str, new: str) -> None:
    assert split_text(text).text == new


@pytest.mark.proves("T-D12")
def test_what_could_introduce_quotes_everywhere_is_left_as_it_is() -> None:
    text = "From: a\n" * 20_000 + "> marked words are still told apart"
    assert split_text(text).quoted == "> marked words are still told apart"


@pytest.mark.proves("R2.3")
def test_answer_below_the_quote_is_new() -> None:
    reply = split_text("On 5 May 2024, Desk <desk@example.test> wrote:\n> Which lamp?\n> Tell us.\n\nThe red one.")
    assert reply.text == "The red one."


@pytest.mark.proves("R2.3")
@pytest.mark.parametrize(
    ("quote", "answer"),
    [
        (">> very old\n> old", "new"),
        ("> > very old\n>\n> old", "new"),
        (">old without a space\n>and more", "new"),
        ("| old\n| older", "new"),
        ("JD> old\nJD> older", "new"),
    ],
)
def test_every_kind_of_mark_counts_below_an_attribution(quote: str, answer: str) -> None:
    line = "Jane Doe <jane@customer.test> writes:"
    reply = split_text(f"{answer}\n\n{line}\n\n{quote}\n\nlast words")
    assert reply.text == f"{answer}\n\nlast words"
    assert reply.quoted == f"{line}\n\n{quote}"


@pytest.mark.proves("R2.3")
def test_marked_lines_without_an_attribution_are_quoted() -> None:
    reply = split_text("> Which lamp do you mean?\nThe red one.\n> And since when is it broken?\nSince Monday.")
    assert reply.text == "The red one.\n\nSince Monday."


@pytest.mark.proves("R2.3")
@pytest.mark.parametrize("delimiter", ["-- ", "--", "--  "])
def test_signature_below_the_delimiter(delimiter: str) -> None:
    text = f"Hello,\nit works.\n\n{delimiter}\nJane Doe\nACME\n+1 555 0100\n\nOn 5/5/24 10:00, Desk wrote:\n> ok"
    reply = split_text(text)
    assert reply.text == "Hello,\nit works."
    assert reply.signature == f"{delimiter.rstrip()}\nJane Doe\nACME\n+1 555 0100"
    assert_nothing_lost(text, reply)


@pytest.mark.proves("R2.3")
def test_long_text_below_dashes_is_no_signature() -> None:
    text = "Part one\n--\n" + "\n".join(f"line {n} of part two" for n in range(40))
    assert split_text(text).text == text


@pytest.mark.proves("R2.3")
def test_text_written_below_a_phone_signature_stays() -> None:
    reply = split_text("Yes.\n\nSent from my iPhone\n\nOh, and one more thing.")
    assert reply == Reply(text="Yes.\n\nOh, and one more thing.", signature="Sent from my iPhone")


@pytest.mark.proves("R2.3")
def test_footer_of_a_mailing_list_is_a_signature() -> None:
    footer = f"{'_' * 47}\nlist mailing list\nlist@lists.test\nhttps://lists.test/mailman/listinfo/list"
    reply = split_text(f"Yes.\n\nOn 5 May 2024, Jane <jane@customer.test> wrote:\n\n> old\n> words\n\n{footer}\n")
    assert (reply.text, reply.signature) == ("Yes.", footer)


@pytest.mark.proves("R2.3")
def test_prompt_above_a_quote_stays() -> None:
    reply = split_text("I ran\n> npm install foo\nand it broke.\n\nOn 5/5/24 10:00, Desk wrote:\n> Which command?")
    assert reply.text == "I ran\n> npm install foo\nand it broke."


PARENT = """Hello Jane,

thank you for your message. We have looked at the order 4711 and found the parcel in our house.
It leaves tomorrow and will be with you on Friday.

Best regards
Your desk"""


@pytest.mark.proves("R2.3")
def test_our_own_message_is_quoted_without_any_mark() -> None:
    reply = split_text(f"Great, thanks!\nBest regards\nJane\n\n{PARENT}\n", parent=PARENT)
    assert reply.text == "Great, thanks!\nBest regards\nJane"
    assert reply.quoted == PARENT


@pytest.mark.proves("R2.3")
def test_our_own_message_is_found_when_wrapped_anew() -> None:
    wrapped = "thank you for your message. We have looked at\nthe order 4711 and found the parcel in our house."
    reply = split_text(f"Great!\n\n{wrapped}\n\nSee you", parent=PARENT)
    assert reply == Reply(text="Great!\n\nSee you", quoted=wrapped)


@pytest.mark.proves("R2.3")
@pytest.mark.parametrize("text", ["Best regards\nJane", "Hello Jane,\nit is me", "Thank you for your message.", "4711"])
def test_a_few_common_words_are_not_taken_for_a_quote(text: str) -> None:
    assert split_text(text, parent=PARENT) == Reply(text=text)


@pytest.mark.proves("R2.3")
def test_single_marked_line_is_a_quote_when_it_is_ours() -> None:
    reply = split_text("> npm install the order 4711 and found\nyes", parent="run npm install the order 4711 and found")
    assert reply.text == "yes"


@pytest.mark.proves("R2.3")
def test_unknown_attribution_above_our_marker_goes_with_it() -> None:
    text = "new\n\n5 zzz 2024 10:00 Foo bar blaha:\n\n##- Please type your reply above this line -##\nold"
    assert split_text(text).text == "new"


_PIECES = st.sampled_from(
    [
        *(
            "",
            " ",
            "new words",
            "> quoted",
            ">> twice",
            "| bar",
            "-- ",
            "--",
            "Sent from my iPhone",
            "JD> old",
            "a@b.test",
        ),
        *(
            "On Mon, May 5, 2024 at 10:00 AM Jane <jane@x.test> wrote:",
            "From: Jane <j@x.test>",
            "To: desk",
            "Subject: x",
        ),
        *("Sent: 5 May 2024 10:00", "-----Original Message-----", "_" * 32, "##- reply above this line -##", "wrote:"),
        *(
            "\u200f",
            "<jane@x.test> wrote:",
            "On 5 May 2024, Jane",
            "> On 5 May 2024 Jane wrote:",
            "\x0b",
            "\u2028",
            "\x85",
        ),
    ]
)


@pytest.mark.proves("R2.3", "T-D12")
@settings(max_examples=250, deadline=None)
@given(st.lists(st.one_of(_PIECES, st.text(max_size=30)), max_size=24), st.one_of(st.none(), st.text(max_size=60)))
def test_nothing_is_lost_or_invented(pieces: list[str], parent: str | None) -> None:
    text = "\n".join(pieces)
    assert_nothing_lost(text, split_text(text, parent=parent))


ADVERSARIES = {
    "attributions": "On foo 2024 10:00 bar:",
    "addresses": "see a@b.test 2024-05-05 10:00 wrote",
    "headers": "From: a@b.test",
    "dates": "On 5 May 2024 10:00 a@b.test",
    "marks": "> quoted line of words",
    "odd marks": "| x",
    "dashes": "----- ----- -----",
    "at signs": "@" * 60,
    "colons": ":" * 60,
    "glue": "a On 4 " * 50 + ":",
    "glued separators": "x -----Original Message----- y",
    "android": "---- a wrote ----\n> x",
    "long words": "a" * 60,
    "signatures": "Sent from my iPhone",
    "delimiters": "-- ",
    "blanks": "",
}


def _cost(text: str, parent: str | None = None) -> float:
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        split_text(text, parent)
        best = min(best, time.process_time() - started)
    return best


@pytest.mark.proves("T-D12")
@pytest.mark.parametrize("line", ADVERSARIES.values(), ids=ADVERSARIES.keys())
def test_time_grows_with_the_text_and_no_faster(line: str) -> None:
    small, large = f"{line}\n" * 500, f"{line}\n" * 4_000
    assert _cost(large) < 30 * max(_cost(small), 0.002)
    assert _cost(large, small) < 40 * max(_cost(small, small), 0.002)


@pytest.mark.proves("T-D12")
@pytest.mark.parametrize("char", ["a", ">", ":", "@", " ", "<", "-", "1", "(", "*", "=", "|", "한", "\u200f"])
def test_one_line_of_a_megabyte_is_cheap(char: str) -> None:
    assert _cost(char * 1_000_000) < 2.0
