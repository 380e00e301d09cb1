"""Names for things that leave the house: from the system's random source, never counted up (T-G13, T-M12)."""

from __future__ import annotations

import secrets
from base64 import b32encode

#: Without the letters and digits that people mix up, and safe in any case.
ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"


def public_id() -> str:
    """26 lower-case characters, 128 bits; safe in URLs and when a relay folds case."""
    return b32encode(secrets.token_bytes(16)).decode("ascii").lower().rstrip("=")


def ticket_code() -> str:
    """A code that can be read out on the phone: ``KQ7-M2XVD-9TA`` (54 bits; access is checked all the same)."""
    number = int.from_bytes(secrets.token_bytes(16))
    letters = [ALPHABET[number // len(ALPHABET) ** place % len(ALPHABET)] for place in range(11)]
    return "".join(letters[:3]) + "-" + "".join(letters[3:8]) + "-" + "".join(letters[8:])
