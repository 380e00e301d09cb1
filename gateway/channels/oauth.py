"""Access tokens for XOAUTH2, kept fresh from a refresh token.

Source: RFC 6749 sections 5 and 6; vendor pages "OAuth 2.0 for IMAP" of Google and Microsoft. The consent itself is
given in the console; this module only renews.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import aiohttp

from gateway.channels.email_config import OAuth
from gateway.errors import ChannelError, ChannelMisconfigured, PeerUnavailable

GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105  # an address, no secret
MICROSOFT_TOKEN_URL = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"  # noqa: S105  # likewise
MICROSOFT_SCOPE = "https://outlook.office.com/IMAP.AccessAsUser.All https://outlook.office.com/SMTP.Send offline_access"
RENEW_AT = 0.8  # of a token's life
DEFAULT_LIFE_SECONDS = 3600.0
TIMEOUT = aiohttp.ClientTimeout(total=30)
MAX_ANSWER_BYTES = 256 * 1024
AADSTS = re.compile(r"AADSTS\d+")
NEEDS_CONSENT = frozenset({"invalid_grant", "interaction_required", "consent_required", "login_required"})
WRONG_CLIENT = frozenset({"invalid_client", "unauthorized_client", "invalid_request", "invalid_scope"})


class TokenSource(Protocol):
    async def token(self, *, force: bool = False) -> str:
        """Return an access token; with ``force`` a new one, since the server refused the last."""


def xoauth2(user: str, token: str) -> bytes:
    """Return the initial response, base64 coded."""
    return base64.b64encode(f"user={user}\x01auth=Bearer {token}\x01\x01".encode())


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    token: str
    renew_at: float  #: on the source's clock


class RefreshingTokens:
    """One account's tokens: renewed at 80 % of their life, one renewal at a time.

    ``store`` is awaited with each new refresh token before the access token is used: Microsoft rotates them, and the
    old one may die. ``mailbox`` is checked against the id token, if one comes.
    """

    def __init__(
        self,
        oauth: OAuth,
        http: aiohttp.ClientSession,
        store: Callable[[str], Awaitable[None]],
        now: Callable[[], float] = time.monotonic,
        *,
        mailbox: str | None = None,
    ) -> None:
        self._oauth = oauth
        self._http = http
        self._store = store
        self._now = now
        self._mailbox = mailbox
        self._refresh_token = oauth.refresh_token.get_secret_value()
        self._access: Access | None = None
        self._renewing = asyncio.Lock()

    async def token(self, *, force: bool = False) -> str:
        """Raises ChannelMisconfigured (token_revoked, oauth_client, wrong_mailbox) or PeerUnavailable."""
        seen = self._access
        async with self._renewing:
            held = self._access
            is_renewed_meanwhile = held is not seen
            if held is not None and self._now() < held.renew_at and (is_renewed_meanwhile or not force):
                return held.token
            self._access = await self._renew()
            return self._access.token

    async def _renew(self) -> Access:
        asked_at = self._now()
        answer = await self._ask()
        token = answer.get("access_token")
        if not isinstance(token, str) or not token:
            raise PeerUnavailable("the token answer holds no access token", code="oauth")
        self._check_mailbox(answer.get("id_token"))
        refresh = answer.get("refresh_token")
        if isinstance(refresh, str) and refresh and refresh != self._refresh_token:
            await self._store(refresh)
            self._refresh_token = refresh
        return Access(token=token, renew_at=asked_at + RENEW_AT * _life_seconds(answer.get("expires_in")))

    async def _ask(self) -> dict[str, Any]:
        form = {
            "grant_type": "refresh_token",
            "client_id": self._oauth.client_id,
            "refresh_token": self._refresh_token,
        }
        if self._oauth.client_secret is not None:
            form["client_secret"] = self._oauth.client_secret.get_secret_value()
        if self._oauth.provider == "microsoft":
            form["scope"] = MICROSOFT_SCOPE
        try:
            async with self._http.post(
                token_url(self._oauth), data=form, timeout=TIMEOUT, allow_redirects=False
            ) as response:
                raw = await _read_at_most(response, MAX_ANSWER_BYTES)
                return _judged(response.status, response.headers.get("Retry-After", ""), raw)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # the cause may quote the request, which holds the secrets
            raise PeerUnavailable(f"token endpoint: {type(error).__name__}", code="oauth") from None

    def _check_mailbox(self, id_token: object) -> None:
        claimed = _claimed_mailbox(id_token)
        if self._mailbox and claimed and claimed.casefold() != self._mailbox.casefold():
            raise ChannelMisconfigured(
                f"the consent was given for {claimed}, not for {self._mailbox}", code="wrong_mailbox"
            )


def token_url(oauth: OAuth) -> str:
    if oauth.token_url:
        return oauth.token_url
    if oauth.provider == "google":
        return GOOGLE_TOKEN_URL
    return MICROSOFT_TOKEN_URL.format(tenant=oauth.tenant)


async def _read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    raw = b""
    async for chunk in response.content.iter_chunked(16 * 1024):
        raw += chunk
        if len(raw) > limit:
            raise PeerUnavailable("the token answer is too large", code="oauth")
    return raw


def _judged(status: int, retry_after: str, raw: bytes) -> dict[str, Any]:
    """Return the answer's fields, or raise what the refusal means."""
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        answer = None
    if status == 200 and isinstance(answer, dict):
        return answer
    raise _refusal(status, retry_after, answer if isinstance(answer, dict) else {})


def _refusal(status: int, retry_after: str, answer: dict[str, Any]) -> ChannelError:
    error = str(answer.get("error", ""))[:60]
    known = AADSTS.search(str(answer.get("error_description", "")))  # the rest of it may quote our request
    words = f"{error or status} {known[0] if known else ''}".strip()
    delay = timedelta(seconds=min(int(retry_after), 3600)) if retry_after.isdecimal() else None
    if status == 429 or status >= 500 or error in ("temporarily_unavailable", "server_error"):
        return PeerUnavailable(f"the token endpoint is busy: {words}", code="oauth", retry_after=delay)
    if error in NEEDS_CONSENT:
        return ChannelMisconfigured(f"the consent is gone, give it again: {words}", code="token_revoked")
    if error in WRONG_CLIENT:
        return ChannelMisconfigured(f"the OAuth client is refused: {words}", code="oauth_client")
    return PeerUnavailable(f"the token endpoint answered {words}", code="oauth")


def _life_seconds(value: object) -> float:
    try:
        life = float(value) if isinstance(value, int | float | str) else DEFAULT_LIFE_SECONDS
    except ValueError:
        return DEFAULT_LIFE_SECONDS
    return life if 0 < life < 10**7 else DEFAULT_LIFE_SECONDS


def _claimed_mailbox(id_token: object) -> str:
    """Return whom an id token names. It came over TLS from the issuer, so its signature says nothing new."""
    if not isinstance(id_token, str) or id_token.count(".") != 2:
        return ""
    payload = id_token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return ""
    if not isinstance(claims, dict):
        return ""
    named = claims.get("email") or claims.get("preferred_username") or ""
    return named if isinstance(named, str) else ""
