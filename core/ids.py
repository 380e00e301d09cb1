"""Names for things that leave the house: from the system's random source, never counted up (T-G13, T-M12)."""

from __future__ import annotations

import secrets

#: Without the letters and digits that people mix up, and safe in any case.
ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"


def public_id() -> str:
    """27 lower-case characters, 132 bits; safe in URLs and when a relay folds case."""
    return "".join(secrets.choice(ALPHABET) for _ in range(27)).lower()


def ticket_code() -> str:
    """A code that can be read out on the phone: ``KQ7-M2XVD-9TA`` (54 bits; access is checked all the same)."""
    letters = [secrets.choice(ALPHABET) for _ in range(11)]
    return "".join(letters[:3]) + "-" + "".join(letters[3:8]) + "-" + "".join(letters[8:])
