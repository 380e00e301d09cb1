"""What an extra brings may be missing: the program starts without it."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Extra -> the packages that it brings.
EXTRAS = {"postgres": ("asyncpg",), "s3": ("obstore",), "sandbox": ("aiosmtpd", "pymap")}


@pytest.mark.parametrize("extra", EXTRAS)
def test_program_loads_without_an_extra(extra: str) -> None:
    hide = "".join(f"sys.modules[{name!r}] = None; " for name in EXTRAS[extra])
    load = "import gateway.cli, gateway.serving, gateway.web_root, gateway.inspect"
    done = subprocess.run([sys.executable, "-c", f"import sys; {hide}{load}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
