"""REST for files: always a download, never a page of ours, whatever their sender called them (T-F01, T-F04)."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

from aiohttp import web

from core.access import Action
from gateway.web.desk import files
from gateway.web.routing import Policy, Request, route

#: Types that are told to the browser; everything else is bytes.
TYPES = frozenset(
    {
        "application/pdf", "application/zip", "audio/mpeg", "image/gif", "image/jpeg", "image/png", "image/webp",
        "message/rfc822", "text/csv", "text/plain", "video/mp4",
    }
)  # fmt: skip
BYTES = "application/octet-stream"
UNPLAIN = re.compile(r"[^ !#$&\'()+,.0-9;=@A-Z\[\]^_`a-z{}~-]")


@route(
    "GET",
    "/api/v1/attachments/{id}/content",
    policy=Policy(who="agent", action=Action.TICKET_READ),
    summary="The bytes of an attachment, as a download",
    tags=("files",),
    content=(*sorted(TYPES), BYTES),
)
async def get_attachment(request: Request) -> web.Response:
    row = await request.read(files.attachment, request.actor, request.params["id"])
    content = await files.kept(request.services.db, request.services.blobs, row["digest"])
    return download(content, name=row["name"], content_type=row["content_type"])


def download(content: bytes, *, name: str, content_type: str) -> web.Response:
    """Answer with a file that no browser runs, shows in our origin, or caches."""
    told = content_type.lower() if content_type.lower() in TYPES else BYTES
    headers = {
        "Content-Type": told,
        "Content-Disposition": disposition(name),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(body=content, headers=headers)


def disposition(name: str) -> str:
    """``attachment`` with the name in plain ASCII and, where that is not all of it, in full (RFC 6266, RFC 8187)."""
    shown = "".join(char for char in name if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")) or "file"
    plain = UNPLAIN.sub("_", shown)
    extended = "" if plain == shown else f"; filename*=UTF-8''{quote(shown, safe='')}"
    return f'attachment; filename="{plain}"{extended}'


ROUTES = [get_attachment]
