"""What holds for every request and answer: allowed hosts, the client's address, same origin, headers."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from gateway.config import Config
from gateway.web.problems import Problem

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


def check_host(request: web.Request, config: Config) -> None:
    """Answer only to our own names: links are built from the configuration alone, and no foreign name resolves here."""
    own = urlsplit(config.base_url)
    given = request.headers.get(hdrs.HOST, "")
    try:
        asked = urlsplit(f"//{given}")
        host, port = asked.hostname, asked.port or _default_port(own.scheme)
    except ValueError as error:
        raise _unknown_host() from error
    is_plain = given.isascii() and given.isprintable() and not any(sign in given for sign in "/\\?#@ ,")
    is_ours = host in LOOPBACK or (host, port) == (own.hostname, own.port or _default_port(own.scheme))
    if not (is_plain and is_ours):
        raise _unknown_host()


def check_same_origin(request: web.Request, config: Config) -> None:
    """For what browsers send to change something: it must come from a page of ours. Raises Problem 403.

    Every browser of the last years sends ``Origin`` with a POST; a request without any sign of its origin is refused.
    """
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get(hdrs.ORIGIN)
    if site is None and origin is None:
        raise _foreign()
    if site is not None and site != "same-origin":
        raise _foreign()
    if origin is not None and origin not in own_origins(request, config):
        raise _foreign()


def _unknown_host() -> Problem:
    return Problem(421, "unknown_host", "This server does not go by that name.")


def _foreign() -> Problem:
    return Problem(403, "foreign_origin", "This request came from another site.")


def own_origins(request: web.Request, config: Config) -> set[str]:
    own = urlsplit(config.base_url)
    origins = {f"{own.scheme}://{own.netloc}"}
    host = request.headers.get(hdrs.HOST, "")
    if urlsplit(f"//{host}").hostname in LOOPBACK:  # check_host let it pass
        origins.add(f"http://{host}")
    return origins


def client_address(request: web.Request, config: Config) -> str:
    """Who is calling. ``X-Forwarded-For`` counts only as far as our own proxies wrote it (T-L12)."""
    address = _address(request.remote or "")
    hops = [hop for value in request.headers.getall("X-Forwarded-For", []) for hop in value.split(",")]
    while hops and _is_trusted(address, config):
        try:
            address = str(ipaddress.ip_address(hops.pop().strip()))
        except ValueError:
            break
    return address


def is_https(config: Config) -> bool:
    return config.base_url.startswith("https://")


def add_headers(response: web.StreamResponse, *, nonce: str, config: Config) -> None:
    """Set what the handler did not set itself."""
    response.headers[hdrs.SERVER] = "gatehouse"  # the library has put its name and version there
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Content-Security-Policy", policy(nonce))
    if is_https(config):
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")


def policy(nonce: str) -> str:
    """The content policy of our pages: own files, marked inline blocks, and nobody may frame us."""
    return (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; "
        "img-src 'self' data:; font-src 'self'; connect-src 'self'; frame-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )


def local_path(text: str | None, *, default: str = "/") -> str:
    """Where to go after sign-in: a path of ours and nothing else (T-E14)."""
    if not text or not text.startswith("/") or text.startswith("//") or len(text) > 2000:
        return default
    if "\\" in text or not text.isascii() or not text.isprintable() or " " in text:
        return default
    return text


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return ""


def _is_trusted(address: str, config: Config) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in ipaddress.ip_network(proxy, strict=False) for proxy in config.trusted_proxies)


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80
