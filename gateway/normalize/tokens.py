"""Signed tokens that come back to us: in reply addresses, Message-IDs, return paths, envelope ids, the loop marker.

A token is one letter (its purpose), the numbers it speaks of and a MAC over all of that (HMAC-SHA256, 128 bits), in
RFC 4648 base32 without padding, lower case: relays that fold case do it no harm. It says *which* message of *which*
ticket; whether the sender may use it is decided by who takes part in that ticket (T-A03).
"""

from __future__ import annotations

import hmac
import re
from base64 import b32decode, b32encode
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

NUMBER_BYTES = 5
ROUND_BYTES = 1
MAC_BYTES = 16
PAYLOAD_BYTES = 2 * NUMBER_BYTES + ROUND_BYTES
TOKEN_CHARS = 1 + 44  # the letter, then 27 bytes in base32
MAX_LOCAL_PART = 64  # RFC 5321 section 4.5.3.1.1


class Purpose(StrEnum):
    REPLY = "r"  #: plus part of our Reply-To
    MESSAGE = "m"  #: in our Message-ID
    RETURN = "b"  #: plus part of the envelope sender
    ENVELOPE = "e"  #: ENVID of a DSN
    LOOP = "l"  #: X-Gatehouse-Loop


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """What a valid token says. ``nonce`` names the outgoing message, ``round`` the copy of it that was sent."""

    purpose: Purpose
    ticket_id: int
    nonce: int
    round: int = 1


def sign(token: Token, key: bytes) -> str:
    """Return the token as 45 characters of ``[a-z2-7]``."""
    payload = (
        token.ticket_id.to_bytes(NUMBER_BYTES, "big")
        + token.nonce.to_bytes(NUMBER_BYTES, "big")
        + min(token.round, 255).to_bytes(ROUND_BYTES, "big")
    )
    signed = payload + _mac(token.purpose, payload, key)
    return token.purpose.value + b32encode(signed).decode("ascii").lower().rstrip("=")


def read(text: str, key: bytes) -> Token | None:
    """Return what ``text`` says if we signed exactly that; case does not matter, everything else does."""
    text = text.lower()
    if len(text) != TOKEN_CHARS or not text.isascii() or text[0] not in _PURPOSES:
        return None
    body = text[1:].upper()
    try:
        signed = b32decode(body + "=" * (-len(body) % 8))
    except ValueError:
        return None
    purpose = Purpose(text[0])
    payload, mac = signed[:PAYLOAD_BYTES], signed[PAYLOAD_BYTES:]
    if b32encode(signed).decode("ascii").rstrip("=") != body:  # two spellings of the same bits: not ours
        return None
    if not hmac.compare_digest(mac, _mac(purpose, payload, key)):
        return None
    return Token(
        purpose=purpose,
        ticket_id=int.from_bytes(payload[:NUMBER_BYTES], "big"),
        nonce=int.from_bytes(payload[NUMBER_BYTES : 2 * NUMBER_BYTES], "big"),
        round=payload[-1],
    )


def plus_address(address: str, text: str) -> str:
    """Return ``address`` with ``text`` as its plus part, or bare where the local part would get too long."""
    local, _, domain = address.rpartition("@")
    tagged = f"{local}+{text}"
    return f"{tagged}@{domain}" if len(tagged) <= MAX_LOCAL_PART else address


def of_address(address: str, key: bytes, purpose: Purpose) -> Token | None:
    """Return the token in the plus part of ``address``, if there is one for ``purpose``."""
    local, _, _domain = address.rpartition("@")
    _base, plus, tag = local.partition("+")
    return _for(read(tag, key), purpose) if plus else None


def message_id(token: Token, domain: str, key: bytes) -> str:
    """Return our Message-ID, without angle brackets."""
    return f"gh.{sign(token, key)}@{domain}"


def of_message_id(text: str, key: bytes) -> Token | None:
    """Return the token in one of our Message-IDs. Relays that put something around it do not matter."""
    found = _IN_MESSAGE_ID.search(text.lower())
    return _for(read(found[1], key), Purpose.MESSAGE) if found else None


def of_envelope_id(text: str, key: bytes) -> Token | None:
    return _for(read(text.strip(), key), Purpose.ENVELOPE)


def of_loop_marker(text: str, key: bytes) -> Token | None:
    return _for(read(text.strip(), key), Purpose.LOOP)


_PURPOSES = frozenset(purpose.value for purpose in Purpose)
_IN_MESSAGE_ID = re.compile(r"gh\.(m[a-z2-7]{44})(?![a-z2-7])")


def _for(token: Token | None, purpose: Purpose) -> Token | None:
    return token if token and token.purpose is purpose else None


def _mac(purpose: Purpose, payload: bytes, key: bytes) -> bytes:
    return hmac.new(key, purpose.value.encode() + payload, sha256).digest()[:MAC_BYTES]
