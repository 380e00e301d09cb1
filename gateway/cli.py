"""The command ``gatehouse``. Each sub-command imports what it needs when it runs, so that ``--help`` is quick.

Parser children import this module too: nothing heavy may stand at the top.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Gatehouse: a self-hosted message gateway and help desk.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
inspect_app = typer.Typer(help="Show how a message would be read, touching no store.", no_args_is_help=True)
app.add_typer(inspect_app, name="inspect")

Store = Annotated[str | None, typer.Option(help="sqlite:///PATH or postgresql://USER@HOST:PORT/NAME")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on.")]


def main() -> None:
    """Entry point of the command. Known errors are one line each, without a traceback."""
    try:
        app()
    except Exception as error:
        problems = _known_problems(error)
        if not problems:
            raise
        _fail(*problems)


def _known_problems(error: Exception) -> list[str]:
    from sqlalchemy.exc import DBAPIError

    from core.keys import KeyUnusable
    from core.store.database import StoreError
    from gateway.errors import ConfigError

    if isinstance(error, ConfigError):
        return error.problems
    if isinstance(error, DBAPIError):
        return [f"the store: {error.orig}"]
    if isinstance(error, OSError):
        return [f"{error.filename}: {error.strerror}" if error.filename else str(error)]
    return [str(error)] if isinstance(error, KeyUnusable | StoreError) else []


@app.command()
def serve(host: Host = None, port: Port = None, store: Store = None) -> None:
    """Run the gateway and the console."""
    import asyncio

    from gateway import config, serving

    asyncio.run(serving.serve(config.load(host=host, port=port, store=store)))


@app.command()
def demo(
    host: Host = None,
    port: Port = None,
    data: Annotated[Path | None, typer.Option(help="Keep the demo's data here; a temporary folder by default.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same customers.")] = 1,
) -> None:
    """Run everything with a mail server of its own and customers who write: nothing else is needed."""
    import asyncio

    from gateway import demo as demonstration

    asyncio.run(demonstration.run(host=host, port=port, data=data, seed=seed))


@app.command()
def migrate(store: Store = None) -> None:
    """Bring the store up to this program's schema."""
    import asyncio

    from gateway import chores, config

    typer.echo(asyncio.run(chores.migrate(config.load(store=store))))


@app.command()
def doctor(
    send_test: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Also send a test mail there from each channel.")
    ] = None,
) -> None:
    """Check configuration, store, key and mailboxes; say what to mend."""
    import asyncio

    from gateway import chores, config

    is_well = True
    for finding in asyncio.run(chores.doctor(config.load(), test_address=send_test)):
        typer.echo(f"{'ok  ' if finding.is_well else 'MEND'} {finding.what}: {finding.words}")
        is_well &= finding.is_well
    raise typer.Exit(0 if is_well else 1)


@app.command()
def replay(
    ids: Annotated[list[str] | None, typer.Argument(help="Ledger ids as the ledger page shows them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Replay the whole quarantine.")] = False,
    store: Store = None,
) -> None:
    """Give quarantined messages three new attempts. The gateway reads them when it runs."""
    import asyncio

    from gateway import chores, config

    if bool(ids) == everything:
        _fail("name the ledger ids, or say --all")
    for line in asyncio.run(chores.replay(config.load(store=store), ids or None)):
        typer.echo(line)


@inspect_app.command("mail")
def inspect_mail(
    paths: Annotated[list[Path], typer.Argument(help="Mail files, mbox files, or folders of them.")],
) -> None:
    """Print one JSON object a line for each mail."""
    import json

    from gateway.inspect import inspect_paths

    for found in inspect_paths(paths):
        line = json.dumps(found, ensure_ascii=False) + "\n"
        sys.stdout.buffer.write(line.encode("utf-8", "replace"))  # JSON is UTF-8, whatever the terminal speaks
    sys.stdout.buffer.flush()


def _fail(*problems: str) -> None:
    for problem in problems:
        typer.echo(f"gatehouse: {problem}", err=True)
    raise SystemExit(2)
