"""Readers that misbehave at a word in the mail, for the children of the parser pool. Everything else is read truly."""

from __future__ import annotations

import os
import signal
import time

from gateway.normalize.mail import read_mail
from gateway.normalize.values import Mail

POISON = b"X-Poison: "


def read(raw: bytes) -> Mail:
    """Do what ``X-Poison`` says."""
    if POISON not in raw:
        return read_mail(raw)
    word = raw.split(POISON, 1)[1].split(b"\r\n", 1)[0]
    if word == b"raise":
        raise RuntimeError("canary-secret-of-the-mail")
    if word == b"allocate":
        hoard = [bytes(64 * 1024 * 1024) for _ in range(64)]
        raise AssertionError(len(hoard))
    if word == b"recurse":
        return read(raw)
    if word == b"hang":
        time.sleep(3600)
    if word == b"segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == b"exit":
        os._exit(3)
    raise AssertionError(word)
