"""Plain words for what a reader would take for jargon: how sure we are, and what is odd about a mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SURENESS: Mapping[str, str] = {
    "certain": "Certain: our own signature in it proves it.",
    "likely": "Likely: the mail says so, and the sender takes part in this ticket.",
    "hint": "Only a hint: anybody could have written that.",
    "none": "It opened this ticket.",
}

#: What a warning of the reader of mails means. Some are of no use to an agent and say nothing.
WARNINGS: Mapping[str, str] = {
    "alternatives-differ": "The plain text and the designed version of this mail say different things. Read both.",
    "boundary-missing": "The mail was damaged on the way; parts of it may be missing.",
    "boundary-wrong": "The mail was damaged on the way; parts of it may be missing.",
    "charset-wrong": "The mail does not say how its letters are written; some may look wrong.",
    "claims-our-address": "It claims to come from our own address, and it does not. Do not trust it.",
    "encrypted-pgp": "It is encrypted (PGP): only its outside can be read here.",
    "encrypted-smime": "It is encrypted (S/MIME): only its outside can be read here.",
    "file-name-changed": "The name of an attachment was made harmless.",
    "header-block-cut": "The header of the mail was far too long and was cut.",
    "header-damaged": "The header of the mail was damaged.",
    "header-field-cut": "A line of the header was far too long and was cut.",
    "header-missing": "The mail has no header.",
    "html-too-complex": "The designed version of this mail was too tangled to show; its words are here as text.",
    "mail-loop": "This mail has been through very many servers: it may be going round in circles.",
    "message-id-reused": "Another mail came in under the same Message-ID. One of the two may be forged.",
    "mime-too-deep": "The mail is nested too deeply; its innermost parts were kept as files.",
    "mime-too-many-parts": "The mail has too many parts; the last ones were not read.",
    "reader-failed": "Part of the mail could not be read. Its raw form is kept.",
    "sender-look-alike": "The domain of the sender is written to look like another one. Compare it letter by letter.",
    "structure-broken": "The mail was damaged on the way; parts of it may be missing.",
    "text-cut": "The text was very long and is shown cut. Its raw form is whole.",
    "transfer-encoding-unknown": "Part of the mail is written in a way that is not known; it was kept as it came.",
}
QUIET = frozenset({"header-separator-missing", "uuencoded-file"})


def sureness(word: str) -> str:
    return SURENESS.get(word, word)


def warnings_of(codes: Sequence[str]) -> list[str]:
    """Each thing once; a warning without words of its own is shown by its name rather than kept back."""
    names = [code.partition(":")[0] for code in codes]
    return list(
        dict.fromkeys(
            WARNINGS.get(name, name.replace("-", " ").capitalize() + ".") for name in names if name not in QUIET
        )
    )
