"""What belongs to one message: its designed form in a sandbox, its files, its raw bytes."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from email.message import Message
from urllib.parse import unquote

from aiohttp import web

from core.access import Action
from gateway.normalize import charset
from gateway.web.console.frame import page
from gateway.web.console.links import with_places
from gateway.web.console.templating import draw, mail_body
from gateway.web.desk import files as desk
from gateway.web.desk import tickets as desk_tickets
from gateway.web.routing import Policy, Request, route

#: The designed form loads nothing, runs nothing, submits nothing, whatever the sanitiser let through (T-E01 to T-E05).
FRAME_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox"
)
INLINE_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
MAX_INLINE_BYTES = 10 * 1024 * 1024  #: of the images of one mail, drawn into the page that shows it
RAW_SHOWN = 512 * 1024
CID = re.compile(r' src="cid:([^"]{1,500})"')
SEES = Policy(who="session", action=Action.TICKET_READ)


@route(
    "GET", "/messages/{message}/html", policy=SEES, summary="A mail as its sender designed it, for a sandboxed frame"
)
async def get_html(request: Request) -> web.Response:
    view = await request.read(desk_tickets.message_view, request.actor, request.params["message"])
    sanitised = with_places(view.row["html"] or "")
    wanted = {unquote(name).strip("<>") for name in CID.findall(sanitised)}
    images = await _images(request, view, wanted)
    response = draw(
        "mail_frame.html",
        {"body": mail_body(CID.sub(lambda match: _image(match, images), sanitised))},
    )
    response.headers["Content-Security-Policy"] = FRAME_POLICY
    response.headers["X-Frame-Options"] = "SAMEORIGIN"
    return response


@route("GET", "/files/{file}", policy=SEES, summary="An attachment")
async def get_file(request: Request) -> web.Response:
    """Always a download, never shown here, and of a type that no browser runs (T-F01)."""
    row = await request.read(desk.attachment, request.actor, request.params["file"])
    content = await desk.kept(request.services.db, request.services.blobs, row["digest"])
    return web.Response(
        body=content,
        content_type="application/octet-stream",
        headers={
            "Content-Disposition": disposition(row["name"]),
            "Content-Security-Policy": "default-src 'none'; sandbox",
        },
    )


@route("GET", "/messages/{message}/raw", policy=Policy(who="session", action=Action.QUARANTINE_READ_RAW))
async def get_raw(request: Request) -> web.Response:
    message_id = request.params["message"]
    digest = await request.write(desk.raw_of_message, request.by, message_id)
    content = await desk.kept(request.services.db, request.services.blobs, digest)
    return await page(
        request, "raw.html", section="inbox", title="The mail as it came in", text=raw_text(content),
        is_cut=len(content) > RAW_SHOWN, size_bytes=len(content), back=None,
    )  # fmt: skip


def raw_text(content: bytes) -> str:
    """Bytes as something to read: never lost, never raising; what is no UTF-8 is shown as Latin-1."""
    head = content[:RAW_SHOWN]
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        text = head.decode("latin-1")
    return charset.clean(text.replace("\r\n", "\n"))


def disposition(name: str) -> str:
    """``attachment`` with the name in both spellings (RFC 6266); nothing in it can end the header."""
    plain = "".join(char if char.isascii() and (char.isalnum() or char in "._- ") else "_" for char in name)[:120]
    header = Message()
    header.add_header("Content-Disposition", "attachment", filename=plain or "file")
    encoded = "".join(
        char if char.isascii() and char.isalnum() else "".join(f"%{byte:02X}" for byte in char.encode())
        for char in name[:200]
    )
    return f"{header['Content-Disposition']}; filename*=UTF-8''{encoded}"


async def _images(request: Request, view: desk_tickets.MessageView, wanted: set[str]) -> Mapping[str, str]:
    """Content-ID -> the image as a data URL: an opaque origin could not fetch it with the reader's session."""
    found: dict[str, str] = {}
    left = MAX_INLINE_BYTES
    for file in view.files:
        name = (file["content_id"] or "").strip("<>")
        is_shown = name in wanted and file["content_type"] in INLINE_IMAGES and file["size_bytes"] <= left
        if not is_shown or name in found:
            continue
        content = await desk.kept(request.services.db, request.services.blobs, file["digest"])
        left -= len(content)
        found[name] = f"data:{file['content_type']};base64,{base64.b64encode(content).decode()}"
    return found


def _image(match: re.Match[str], images: Mapping[str, str]) -> str:
    url = images.get(unquote(match[1]).strip("<>"))
    return f' src="{url}"' if url is not None else ""


ROUTES = [get_html, get_file, get_raw]
