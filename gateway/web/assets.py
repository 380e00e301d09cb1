"""The built browser files: content-hashed names from the bundler's manifest, served for ever."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.errors import ConfigError

DIST = Path(__file__).parent / "static" / "dist"
PREFIX = "/static/"
TYPES = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain", ".svg": "image/svg+xml"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Assets:
    urls: Mapping[str, str]  #: name in the sources -> path on this server
    files: Mapping[str, Path]  #: file name on this server -> file

    def url(self, name: str) -> str:
        """Where ``console.js`` and its like are. Raises ConfigError for a name that was not built."""
        try:
            return self.urls[name]
        except KeyError:
            raise ConfigError([f"the browser file {name} was not built: run `npm ci && npm run build`"]) from None

    async def serve(self, request: web.Request) -> web.StreamResponse:
        path = self.files.get(request.match_info["file"])
        if path is None:
            raise web.HTTPNotFound
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable",
            "Content-Type": TYPES.get(path.suffix, "application/octet-stream"),
        }
        return web.FileResponse(path, headers=headers)


def load(folder: Path = DIST) -> Assets:
    """Read the manifest. Raises ConfigError, with what to do, where nothing was built."""
    try:
        manifest: dict[str, str] = json.loads((folder / "manifest.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError([f"no built browser files in {folder}: run `npm ci && npm run build` ({error})"]) from error
    files = {path.name: path for path in folder.iterdir() if path.is_file() and path.name != "manifest.json"}
    return Assets(urls={name: PREFIX + file for name, file in manifest.items()}, files=files)
