"""Tokens for XOAUTH2: vendor answers of a local token endpoint, and the login that uses them."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.channels import email_imap
from gateway.channels.email_config import OAuth
from gateway.channels.oauth import RefreshingTokens, token_url, xoauth2
from gateway.errors import ChannelError, ChannelMisconfigured, PeerUnavailable
from tests.channels.imap_harness import mail, settings
from tests.servers.imap_peer import Conversation, ImapPeer
from tests.servers.memory_journal import MemoryJournal

REFRESH, SECRET, ACCESS = "canary-refresh-1", "canary-client-2", "canary-access-3"
GOOGLE_ERROR = "eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJodHRwczovL21haWwuZ29vZ2xlLmNvbS8ifQ=="


class Endpoint:
    """Plays a vendor's token endpoint; ``answers`` are used up, the last one stays."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any, dict[str, str]]] = []
        self.forms: list[dict[str, str]] = []
        self.clock = 1000.0
        self.stored: list[str] = []
        self.url = ""
        self.http: aiohttp.ClientSession

    def answer(self, status: int = 200, body: Any = None, **headers: str) -> None:
        default = {"access_token": f"{ACCESS}-{len(self.answers)}", "expires_in": 3600, "token_type": "Bearer"}
        self.answers.append((status, default if body is None else body, headers))

    async def handle(self, request: web.Request) -> web.Response:
        self.forms.append({key: str(value) for key, value in (await request.post()).items()})
        status, body, headers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        await asyncio.sleep(0)
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def config(self, provider: str = "google") -> OAuth:
        fields: dict[str, Any] = {"provider": provider, "token_url": self.url, "client_id": "client"}
        return OAuth(refresh_token=REFRESH, client_secret=SECRET, **fields)  # type: ignore[arg-type]  # pydantic wraps

    def tokens(self, provider: str = "google", *, mailbox: str | None = None) -> RefreshingTokens:
        return RefreshingTokens(self.config(provider), self.http, self.store, lambda: self.clock, mailbox=mailbox)

    async def store(self, token: str) -> None:
        self.stored.append(token)


@asynccontextmanager
async def endpoint() -> AsyncIterator[Endpoint]:
    played = Endpoint()
    app = web.Application()
    app.router.add_post("/token", played.handle)
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        played.url, played.http = str(server.make_url("/token")), http
        yield played


def test_initial_response_is_the_vendors() -> None:
    expected = b"dXNlcj1zdXBwb3J0QGV4YW1wbGUudGVzdAFhdXRoPUJlYXJlciB0ZXN0LWFjY2Vzcy10b2tlbgEB"
    assert xoauth2("support@example.test", "test-access-token") == expected


@pytest.mark.parametrize(
    ("provider", "tenant", "url"),
    [
        ("google", "organizations", "https://oauth2.googleapis.com/token"),
        ("microsoft", "organizations", "https://login.microsoftonline.com/organizations/oauth2/v2.0/token"),
        ("microsoft", "example.test", "https://login.microsoftonline.com/example.test/oauth2/v2.0/token"),
    ],
)
def test_each_vendor_has_its_endpoint(provider: Any, tenant: str, url: str) -> None:
    made = OAuth(provider=provider, client_id="c", refresh_token=REFRESH, tenant=tenant)  # type: ignore[arg-type]  # pydantic wraps
    assert token_url(made) == url


@pytest.mark.proves("R4.1")
async def test_token_is_kept_until_four_fifths_of_its_life() -> None:
    async with endpoint() as played:
        played.answer(body={"access_token": "one", "expires_in": 1000})
        played.answer(body={"access_token": "two", "expires_in": "1000"})
        tokens = played.tokens()
        assert await tokens.token() == "one"
        played.clock += 799
        assert await tokens.token() == "one"
        played.clock += 1
        assert await tokens.token() == "two"
    expected = {
        "grant_type": "refresh_token",
        "client_id": "client",
        "client_secret": SECRET,
        "refresh_token": REFRESH,
    }
    assert played.forms == [expected, expected]


async def test_many_askers_cause_one_renewal() -> None:
    async with endpoint() as played:
        played.answer()
        tokens = played.tokens()
        assert len(set(await asyncio.gather(*(tokens.token() for _ in range(20))))) == 1
        assert len(played.forms) == 1
        await asyncio.gather(*(tokens.token(force=True) for _ in range(20)))
        assert len(played.forms) == 2


async def test_rotated_refresh_token_is_stored_before_use_and_used_next() -> None:
    async with endpoint() as played:
        played.answer(body={"access_token": "one", "refresh_token": "rotated"})
        played.answer(body={"access_token": "two", "refresh_token": "rotated"})
        tokens = played.tokens("microsoft")
        await tokens.token()
        assert played.stored == ["rotated"]
        await tokens.token(force=True)
    assert [form["refresh_token"] for form in played.forms] == [REFRESH, "rotated"]
    assert played.stored == ["rotated"]
    assert "offline_access" in played.forms[0]["scope"]


@pytest.mark.proves("F-M09", "T-O01")
@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "code", "words"),
    [
        (400, {"error": "invalid_grant"}, {}, ChannelMisconfigured, "token_revoked", "invalid_grant"),
        (
            400,
            {"error": "invalid_grant", "error_description": f"AADSTS70008: expired {REFRESH}"},
            {},
            ChannelMisconfigured,
            "token_revoked",
            "AADSTS70008",
        ),
        (400, {"error": "interaction_required"}, {}, ChannelMisconfigured, "token_revoked", ""),
        (401, {"error": "invalid_client"}, {}, ChannelMisconfigured, "oauth_client", "invalid_client"),
        (400, {"error": "unauthorized_client"}, {}, ChannelMisconfigured, "oauth_client", ""),
        (400, {"error": "temporarily_unavailable"}, {}, PeerUnavailable, "oauth", ""),
        (429, {"error": "invalid_grant"}, {"Retry_After": "7"}, PeerUnavailable, "oauth", ""),
        (500, "oops", {}, PeerUnavailable, "oauth", ""),
        (503, {}, {"Retry_After": "soon"}, PeerUnavailable, "oauth", ""),
        (400, {"error": "something_new"}, {}, PeerUnavailable, "oauth", "something_new"),
        (200, "not json", {}, PeerUnavailable, "oauth", ""),
        (200, [], {}, PeerUnavailable, "oauth", ""),
        (200, {}, {}, PeerUnavailable, "oauth", ""),
        (200, {"access_token": 7}, {}, PeerUnavailable, "oauth", ""),
        (200, "[" * 100_000, {}, PeerUnavailable, "oauth", ""),
        (200, "x" * 1_000_000, {}, PeerUnavailable, "oauth", ""),
        (302, "", {"Location": "http://127.0.0.1:1/"}, PeerUnavailable, "oauth", ""),
    ],
)
async def test_refusal_says_whether_to_wait_or_to_mend(
    status: int,
    body: Any,
    headers: dict[str, str],
    kind: type[ChannelError],
    code: str,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with endpoint() as played:
        played.answer(status, body, **headers)
        with pytest.raises(kind) as caught:
            await played.tokens().token()
        assert len(played.forms) == 1
    assert caught.value.code == code
    assert caught.value.retry_after == (timedelta(seconds=7) if headers.get("Retry_After") == "7" else None)
    assert words in str(caught.value)
    said = [repr(caught.value), str(caught.value), *(record.getMessage() for record in caplog.records)]
    assert not [text for text in said if REFRESH in text or SECRET in text]


async def test_endpoint_that_is_down_is_unavailable() -> None:
    async with endpoint() as played:
        tokens = RefreshingTokens(
            played.config().model_copy(update={"token_url": "http://127.0.0.1:1/token"}), played.http, played.store
        )
        with pytest.raises(PeerUnavailable):
            await tokens.token()


def id_token(claims: object) -> str:
    packed = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{packed}.sig"


@pytest.mark.parametrize(
    ("claim", "is_wrong"),
    [
        (id_token({"email": "Support@Example.test"}), False),
        (id_token({"preferred_username": "support@example.test"}), False),
        (id_token({"email": "jane@example.test"}), True),
        (id_token({"preferred_username": "jane@example.test"}), True),
        (id_token({}), False),
        (id_token([1]), False),
        (id_token({"email": 7}), False),
        ("not.a token.at all", False),
        ("x", False),
        (7, False),
    ],
)
async def test_consent_for_another_mailbox_is_noticed(claim: object, is_wrong: bool) -> None:
    async with endpoint() as played:
        played.answer(body={"access_token": "one", "id_token": claim})
        tokens = played.tokens(mailbox="support@example.test")
        if is_wrong:
            with pytest.raises(ChannelMisconfigured) as caught:
                await tokens.token()
            assert caught.value.code == "wrong_mailbox"
        else:
            assert await tokens.token() == "one"


# --- the login -----------------------------------------------------------------------------------------------------


def accepts(token: str) -> Callable[[Conversation, str, str], Any]:
    """Play a server that takes one token and refuses others as Google does."""

    async def authenticate(talk: Conversation, tag: str, rest: str) -> bool:
        mechanism, _, packed = rest.partition(" ")
        assert mechanism == "XOAUTH2"
        if not packed:
            await talk.send("+ ")
            packed = await talk.line()
        if base64.b64decode(packed) == f"user=support\x01auth=Bearer {token}\x01\x01".encode():
            await talk.send(f"{tag} OK hello")
            return True
        await talk.send(f"+ {GOOGLE_ERROR}")
        assert await talk.line() == ""
        await talk.send(f"{tag} NO [AUTHENTICATIONFAILED] Invalid credentials (Failure) {packed}")
        return True

    return authenticate


@pytest.mark.proves("R4.1", "F-M09")
@pytest.mark.parametrize("capabilities", ["IMAP4rev1 AUTH=XOAUTH2 SASL-IR", "IMAP4rev1 AUTH=XOAUTH2"])
@pytest.mark.parametrize("good", [0, 1])
async def test_login_by_token_renews_once_when_refused(capabilities: str, good: int) -> None:
    journal = MemoryJournal()
    async with endpoint() as played, ImapPeer({1: mail(1)}, capabilities=capabilities) as peer:
        for number in range(3):
            played.answer(body={"access_token": f"{ACCESS}-{number}"})
        peer.scripts["AUTHENTICATE"] = accepts(f"{ACCESS}-{good}")
        config = settings(peer.port, password=None, oauth=played.config())
        tokens = played.tokens()
        waiting = asyncio.create_task(email_imap.listen(config, journal, tokens=tokens))
        try:
            await journal.until(lambda: len(journal.rows) == 1)
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        assert len(played.forms) == good + 1


@pytest.mark.proves("F-M09", "T-O01")
async def test_token_refused_twice_is_a_login_fault_without_a_hang_or_a_secret() -> None:
    async with endpoint() as played, ImapPeer({1: mail(1)}) as peer:
        played.answer()
        peer.scripts["AUTHENTICATE"] = accepts("another")
        config = settings(peer.port, password=None, oauth=played.config())
        with pytest.raises(ChannelMisconfigured) as caught:
            await email_imap.check(config, tokens=played.tokens())
        assert peer.count("AUTHENTICATE") == 2
        assert len(played.forms) == 2
    assert caught.value.code == "login"
    packed = xoauth2("support", f"{ACCESS}-0").decode()
    assert ACCESS not in str(caught.value)
    assert packed not in str(caught.value)


@pytest.mark.parametrize("missing", ["capability", "tokens"])
async def test_token_login_that_cannot_work_is_a_login_fault(missing: str) -> None:
    async with endpoint() as played, ImapPeer(capabilities="IMAP4rev1") as peer:
        played.answer()
        config = settings(peer.port, password=None, oauth=played.config())
        with pytest.raises(ChannelMisconfigured) as caught:
            await email_imap.check(config, tokens=played.tokens() if missing == "capability" else None)
    assert caught.value.code == "login"


async def test_throttled_token_endpoint_stops_the_listener_as_unavailable() -> None:
    async with endpoint() as played, ImapPeer({1: mail(1)}) as peer:
        played.answer(429, {}, Retry_After="30")
        config = settings(peer.port, password=None, oauth=played.config())
        with pytest.raises(PeerUnavailable) as caught:
            await email_imap.listen(config, MemoryJournal(), tokens=played.tokens())
        assert not peer.said("AUTHENTICATE")
    assert caught.value.retry_after == timedelta(seconds=30)
