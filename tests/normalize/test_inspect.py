"""`gatehouse inspect` prints one complete line a mail, whatever the files hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspect import inspect_mail, inspect_paths

CORPUS = Path(__file__).parent / "corpus"
FIELDS = [
    *("file", "kind", "from", "sender_unclear", "to", "cc", "reply_to", "subject", "date", "message_id"),
    *("in_reply_to", "references", "text", "html", "reply", "attachments", "automatic", "bounce", "language"),
    "warnings",
]
MAIL = b"From ann@b.test Mon May  5 10:00:00 2025\nFrom: ann@b.test\nSubject: %s\n\nBody\n>From here on\n\n"


@pytest.mark.proves("R2.1")
def test_folder_gives_each_file_sorted() -> None:
    lines = list(inspect_paths([CORPUS]))
    assert [Path(line["file"]).name for line in lines] == sorted(path.name for path in CORPUS.iterdir())
    for line in lines:
        assert list(line) == FIELDS
        json.dumps(line)


@pytest.mark.proves("R2.1")
def test_mbox_gives_each_mail_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "box"
    path.write_bytes(MAIL % b"one" + MAIL % b"two")
    lines = list(inspect_paths([path]))
    assert [(line["file"], line["subject"]) for line in lines] == [(f"{path}#1", "one"), (f"{path}#2", "two")]
    assert lines[0]["text"] == "Body\nFrom here on"


@pytest.mark.proves("R2.1")
def test_single_mail_with_a_from_line_is_one_mail(tmp_path: Path) -> None:
    path = tmp_path / "one.eml"
    path.write_bytes(MAIL % b"one")
    assert [line["file"] for line in inspect_paths([path])] == [str(path)]


@pytest.mark.proves("F-Z01")
def test_unreadable_file_is_a_line_that_says_so(tmp_path: Path) -> None:
    lines = list(inspect_paths([tmp_path / "absent.eml", "nul\x00name"]))
    assert [list(line) for line in lines] == [FIELDS, FIELDS]
    assert [line["warnings"][0].partition(":")[0] for line in lines] == ["cannot-read", "cannot-read"]
    assert lines[0]["file"] == str(tmp_path / "absent.eml")


@pytest.mark.proves("R2.4")
def test_bounce_is_spelt_out() -> None:
    line = inspect_mail((CORPUS / "report.eml").read_bytes(), "report")
    assert line["kind"] == "bounce"
    assert line["bounce"]["recipients"][0]["address"] == "x@y.test"
    assert line["bounce"]["recipients"][0]["permanent"] is True
    assert line["bounce"]["original_message_id"] == "orig@desk.test"


def test_attachments_are_spelt_out() -> None:
    line = inspect_mail(CORPUS / "related-inline.eml", "x")
    assert line["attachments"][0] | {"sha256": ""} == {
        "name": "pic.png",
        "content_type": "image/png",
        "size": 72,
        "sha256": "",
        "inline": True,
        "content_id": "pic@1",
    }
    assert line["from"] == {"name": "Ann Doe", "address": "ann@customer.test"}
    assert line["date"] == "2025-05-05T08:00:00+00:00"


@pytest.mark.proves("F-Z01", "F-Z04")
@given(st.binary(max_size=500))
def test_any_bytes_are_a_line(data: bytes) -> None:
    line = inspect_mail(data, "x")
    assert list(line) == FIELDS
    json.dumps(line, ensure_ascii=False).encode()
