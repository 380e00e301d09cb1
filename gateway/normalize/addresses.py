"""Address headers: a tolerant reader in linear time, and the key by which two addresses are the same person.

Source: RFC 5322 section 3.4 with its obsolete forms, RFC 6532 (UTF-8). Where known parsers disagree about who
wrote the mail, the answer is "unclear", never a guess that somebody could exploit (T-A07).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import idna

from gateway.normalize import charset, words
from gateway.normalize.values import Address

MAX_ADDRESSES: Final = 500
MAX_NAME_CHARS: Final = 200
MAX_ADDRESS_CHARS: Final = 320  # 64 + @ + 255, RFC 5321 section 4.5.3.1
_SPECIAL: Final = re.compile(r'\\.|[",;:<>()]', re.DOTALL)
_ADDR_LIKE: Final = re.compile(r"[^\s@<>\"(),;:\[\]\\]{1,64}@[^\s@<>\"(),;:\\]{1,255}")
_UNSAFE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_NEVER_BARE: Final = frozenset("()<>:;,")  # in a local part without quotes, RFC 5322 section 3.2.3
_AT_LOOKALIKES: Final = ("＠", "﹫")
#: Scripts that one honest label may mix (Unicode TS 39, "highly restrictive").
_MIXES: Final = (
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)
_LATIN_TWINS: Final = frozenset("асеорхуіјѕһԁԛԝӏьгпԍαορυνικτγ")


@dataclass(frozen=True, slots=True)
class _Piece:
    """One mailbox as written: unquoted text, quoted strings, comments and ``<…>`` in order."""

    tokens: tuple[tuple[str, str], ...]  # (text | quoted | comment | angle, characters)
    in_group: bool


SHORT: Final = 320  # characters; what is longer is rare, and not remembered
#: Nothing that breaks a line or a store may be part of a mailbox (T-D05).
_BREAKS: Final = {0: " ", 10: " ", 13: " "}


def parse_address_list(text: str, limit: int = MAX_ADDRESSES) -> list[Address]:
    """Return the mailboxes of a field value (unfolded, encoded words still encoded). Raises nothing."""
    found: list[Address] = []
    for piece in _split(text.translate(_BREAKS)):
        address, _is_unclear = _read_piece(piece)
        if address is not None:
            found.append(address)
            if len(found) >= limit:
                break
    return found


def parse_field(raw: bytes | None, limit: int = MAX_ADDRESSES) -> tuple[Address, ...]:
    if not raw:
        return ()
    return _parse_short(raw, limit) if len(raw) <= SHORT else _parse(raw, limit)


def _parse(raw: bytes, limit: int) -> tuple[Address, ...]:
    return tuple(parse_address_list(words.to_text(raw), limit))


_parse_short = lru_cache(maxsize=1024)(_parse)  # every mail of a mailbox has the same To


def parse_sender(fields: tuple[bytes, ...]) -> tuple[Address | None, bool]:
    """Return who the From fields name, and whether that is unclear: two readers could see two people."""
    if not fields:
        return None, True
    raw = fields[0]
    text = words.to_text(raw)
    is_unclear = len(fields) > 1 or bool(_UNSAFE.search(text)) or any(at in text for at in _AT_LOOKALIKES)
    is_unclear = is_unclear or b"\r" in raw.replace(b"\r\n", b"") or text.count('"') % 2 == 1
    pieces = _split(text)
    sender: Address | None = None
    for piece in pieces:
        address, piece_is_unclear = _read_piece(piece)
        is_unclear = is_unclear or piece_is_unclear or piece.in_group
        if address is not None:
            is_unclear = is_unclear or sender is not None
            sender = sender or address
        elif piece.tokens:
            is_unclear = True
    if sender is None or "@" not in sender.address:
        is_unclear = True
    return sender, is_unclear


def _split(text: str) -> list[_Piece]:
    """Cut the field at commas and semicolons outside quotes, comments and angles.

    A quote, comment or angle that never closes is taken as a plain character on a second look.
    """
    ignored = ""
    for _ in range(4):
        pieces, unclosed = _scan(text, ignored)
        if not unclosed:
            break
        ignored += unclosed
    return _join_names(pieces)


def _join_names(pieces: list[_Piece]) -> list[_Piece]:
    """``Doe, Jane <j@d.example>`` written without quotes is one person."""
    joined: list[_Piece] = []
    for piece in pieces:
        before = joined[-1] if joined else None
        is_name = before is not None and all(kind == "text" and "@" not in chars for kind, chars in before.tokens)
        if before is not None and is_name and any(kind == "angle" for kind, _ in piece.tokens):
            joined[-1] = _Piece((*before.tokens, ("text", ","), *piece.tokens), piece.in_group)
        else:
            joined.append(piece)
    return joined


def _scan(text: str, ignored: str) -> tuple[list[_Piece], str]:
    pieces: list[_Piece] = []
    tokens: list[tuple[str, str]] = []
    in_group = False
    state, depth, begin, at = "text", 0, 0, 0

    def take(kind: str, end: int) -> None:
        if end > begin:
            tokens.append((kind, text[begin:end]))

    def close() -> None:
        if any(kind == "angle" or chars.strip() for kind, chars in tokens):
            pieces.append(_Piece(tuple(tokens), in_group))
        tokens.clear()

    for match in _SPECIAL.finditer(text):
        char, at = match[0], match.start()
        if char in ignored:
            continue
        if state == "quoted":
            if char == '"':
                tokens.append(("quoted", text[begin:at]))
                state, begin = "text", at + 1
        elif state == "comment":
            depth += (char == "(") - (char == ")")
            if depth == 0:
                tokens.append(("comment", text[begin:at]))
                state, begin = "text", at + 1
        elif state == "angle":
            if char == ">":
                tokens.append(("angle", text[begin:at]))
                state, begin = "text", at + 1
        elif char == '"':
            take("text", at)
            state, begin = "quoted", at + 1
        elif char == "(":
            take("text", at)
            state, begin, depth = "comment", at + 1, 1
        elif char == "<":
            take("text", at)
            state, begin = "angle", at + 1
        elif char in ",;":
            take("text", at)
            close()
            begin = at + 1
            in_group = in_group and char == ","
        elif char == ":" and not any(kind == "angle" for kind, _ in tokens) and "@" not in text[begin:at]:
            tokens.clear()  # the name of a group, or "mailto:"
            in_group, begin = True, at + 1
    take("text" if state == "text" else state, len(text))
    close()
    return pieces, {"quoted": '"', "comment": "(", "angle": "<"}.get(state, "")


def _read_piece(piece: _Piece) -> tuple[Address | None, bool]:
    """Return the mailbox of a piece and whether two readers may disagree about it."""
    angles = [chars for kind, chars in piece.tokens if kind == "angle"]
    comments = [chars for kind, chars in piece.tokens if kind == "comment"]
    is_unclear = len(angles) > 1 or any("<" in chars or ">" in chars for chars in comments)
    holder = next((chars for chars in reversed(angles) if "@" in chars), angles[-1] if angles else None)
    if holder is not None and ("@" in holder or holder.strip()):
        address, is_odd = _read_spec(holder)
        name = _phrase(piece.tokens)
        raw_text = "".join(chars for kind, chars in piece.tokens if kind == "text")
        after = piece.tokens[-1]
        has_quotes = any(kind == "quoted" for kind, _ in piece.tokens)
        is_unclear = is_unclear or "," in raw_text
        is_unclear = is_unclear or is_odd or (after[0] in {"text", "quoted"} and bool(after[1].strip()))
        is_unclear = is_unclear or (("@" in raw_text or "=?" in raw_text) and _names_another(name, address))
        is_unclear = is_unclear or ("@" in raw_text and (raw_text.strip().lower() != address.lower() or has_quotes))
        is_unclear = is_unclear or not {"<", ">", "\\"}.isdisjoint(raw_text)
    else:
        joined = "".join(
            f'"{chars}"' if kind == "quoted" else chars for kind, chars in piece.tokens if kind in {"text", "quoted"}
        )
        address, name, is_odd = _read_bare(joined)
        is_unclear = is_unclear or is_odd or bool(angles)
        name = name or words.tidy(words.decode_words(" ".join(comments)))
    if not address:
        return None, True
    return Address(name=name[:MAX_NAME_CHARS], address=address[:MAX_ADDRESS_CHARS]), is_unclear


def _names_another(name: str, address: str) -> bool:
    return "@" in _ADDR_LIKE.sub("", name) or any(hit.lower() != address.lower() for hit in _ADDR_LIKE.findall(name))


def _phrase(tokens: tuple[tuple[str, str], ...]) -> str:
    """Return the display name in front of the angle, quotes and encoded words undone."""
    parts: list[str] = []
    for kind, chars in tokens:
        if kind == "quoted":
            parts.append(re.sub(r"\\(.)", r"\1", chars))
        elif kind == "text":
            parts.append(chars)
    name = " ".join("".join(parts).split()) if len(parts) > 1 else "".join(parts)
    name = words.tidy(words.decode_words(name)).strip("\"' ")
    if name:
        return name
    return words.tidy(words.decode_words(" ".join(chars for kind, chars in tokens if kind == "comment")))


def _read_spec(inner: str) -> tuple[str, bool]:
    """Return the addr-spec inside ``<…>`` and whether its form is odd (route, quotes, spaces, encoded)."""
    is_odd = False
    spec = inner.strip()
    if "=?" in spec:
        spec, is_odd = words.tidy(words.decode_words(spec)), True
    if spec.startswith("@") and ":" in spec:  # obsolete route, RFC 5322 section 4.4
        spec, is_odd = spec.rpartition(":")[2], True
    if spec[:7].lower() == "mailto:":
        spec, is_odd = spec[7:], True
    if "," in spec or ";" in spec:
        is_odd = True
        if not spec.startswith('"'):
            spec = next((one for one in re.split("[,;]", spec) if "@" in one), spec)
    if "(" in spec:
        spec, is_odd = words.drop_comments(spec), True
    tight = "".join(spec.split()) if not spec.startswith('"') else spec.strip()
    is_odd = is_odd or tight != spec or tight.count("@") != 1 or '"' in tight or "<" in tight or "\\" in tight
    local, at, domain = tight.rpartition("@")
    is_odd = is_odd or not local or not _NEVER_BARE.isdisjoint(local) or (bool(at) and not _is_domain(domain))
    tight = words.tidy(tight)
    return ("", True) if tight in {"", "@"} else (tight, is_odd)


def _is_domain(domain: str) -> bool:
    if domain[:1] == "[" and domain[-1:] == "]":
        return True
    return bool(domain) and not domain.startswith(".") and ".." not in domain and not set(domain) & set("()[]:\\\"'!/=")


def _read_bare(text: str) -> tuple[str, str, bool]:
    """Return ``(address, name, odd)`` of a mailbox without angle brackets."""
    bare = text.strip()
    if bare.startswith('"'):
        quoted, _, rest = bare[1:].partition('"')
        if rest.startswith("@") and " " not in rest.strip():
            return f'"{quoted}"{rest.strip()}', "", True
    has_words = "=?" in bare
    if has_words:
        bare = words.tidy(words.decode_words(bare))
    tight = re.sub(r"\s*([@.])\s*", r"\1", bare) if len(bare) < 1000 else bare
    hit = _ADDR_LIKE.search(tight)
    if hit is None:
        return "", "", True
    name = " ".join((tight[: hit.start()] + " " + tight[hit.end() :]).split()).strip("\"'<>[]() ")
    is_odd = has_words or hit[0] != bare or not _is_domain(hit[0].rpartition("@")[2])
    spec = hit[0].rstrip(".")
    if len(spec) > 2 and spec[0] == spec[-1] == "'":
        spec = spec[1:-1]
    return spec, name, is_odd


def identity_key(address: str) -> str | None:
    """Return the key under which a contact is found: equal keys mean the same mailbox, nothing else does.

    Domain: IDNA A-labels, ASCII lower case, no trailing dot. Local part: NFC and ASCII case only, because NFKC
    and Unicode case folding make different mailboxes equal (T-A12). None when it is no address.
    """
    return _short_key(address) if len(address) <= SHORT else _key(address)


def _key(address: str) -> str | None:
    local, at, domain = charset.clean(address).strip().rpartition("@")
    domain = domain.rstrip(".")
    if not at or not local or not domain or _UNSAFE.search(address):
        return None
    if (
        len(local) > 1
        and local[0] == local[-1] == '"'
        and re.fullmatch(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\-]+", local[1:-1])
    ):
        local = local[1:-1]  # quotes that nobody needed
    return f"{_ascii_lower(_composed(local))}@{_a_label(domain)}"


_short_key = lru_cache(maxsize=4096)(_key)


def _composed(text: str) -> str:
    """NFC, but for the few signs (the kelvin sign) that it would turn into ASCII letters."""
    if text.isascii():
        return text
    if any(not char.isascii() and unicodedata.normalize("NFC", char).isascii() for char in text):
        return text
    return unicodedata.normalize("NFC", text)


def _ascii_lower(text: str) -> str:
    return text.lower() if text.isascii() else "".join(char.lower() if char.isascii() else char for char in text)


def _a_label(domain: str) -> str:
    lowered = _ascii_lower(_composed(domain))
    if lowered.isascii():
        return lowered
    try:
        return idna.encode(lowered).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return lowered  # no valid name: it stays itself and equals nothing else


def is_confusable(domain: str) -> bool:
    """Return whether a domain mixes scripts in a label, hides characters or is written in twins of Latin."""
    for label in domain.rstrip(".").split("."):
        shown = label
        if label[:4].lower() == "xn--":
            try:
                shown = idna.decode(label)
            except (idna.IDNAError, UnicodeError):
                return True
        if shown.isascii():
            continue
        if _UNSAFE.search(shown) or unicodedata.normalize("NFKC", shown) != shown:
            return True
        letters = {char for char in shown.lower() if char.isalpha()}
        scripts = {_script(char) for char in letters}
        if len(scripts) > 1 and not any(scripts <= mix for mix in _MIXES):
            return True
        if letters and letters <= _LATIN_TWINS:
            return True
    return False


def _script(char: str) -> str:
    return unicodedata.name(char, "UNKNOWN").split(" ", 1)[0].split("-", 1)[0]
