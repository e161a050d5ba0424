"""`rrti view`: a store in the browser, sample by sample and token by token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrti_sgl.cli.api import Port, endpoint_key
from rrti_sgl.cli.options import with_options
from rrti_sgl.cli.signals import Stopped, run_async
from rrti_sgl.cli.terminal import say

if TYPE_CHECKING:
    from rrti_sgl.programs.explorer.explorer import Explorer
    from rrti_sgl.programs.web.serving import Place

DEFAULT = Path("traces.duckdb")


@with_options([])
def view(
    store: Annotated[Path | None, typer.Argument(metavar="STORE", help="The trace store; same as --db.")] = None,
    db: Annotated[Path, typer.Option(help="The trace store.")] = DEFAULT,
    sealed: Annotated[bool, typer.Option("--sealed", help="Sealed runs only, without a lock: while a run writes.")] = False,
    snapshot: Annotated[
        bool, typer.Option("--snapshot", help="Sealed runs and the last `rrti db snapshot`, without a lock.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this machine's own need a key.")
    ] = "127.0.0.1",
    port: Port = 0,
    endpoint_key_file: Annotated[
        Path | None,
        typer.Option(help="File with the key that a browser has to show; made if it is not there. Or RRTI_ENDPOINT_KEY."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the address in the browser.")] = True,
) -> None:
    """Look at a store in the browser: samples, both models' candidates at each token, two runs side by side.

    It is read, and stays as it is. Ctrl-C ends it.
    """
    from rrti_sgl.db.store import Store
    from rrti_sgl.errors import UsageError
    from rrti_sgl.programs.explorer import check_installed

    check_installed()
    from rrti_sgl.programs.explorer.explorer import Explorer
    from rrti_sgl.programs.web.serving import Place

    if store is not None and db != DEFAULT:
        raise UsageError("The store is named twice.", "Give STORE, or --db.")
    if sealed and snapshot:
        raise UsageError(
            "--sealed and --snapshot were both given.", "A snapshot has the sealed runs, too: leave --sealed out."
        )
    path = store or db
    place = Place(host, port, endpoint_key(endpoint_key_file), "explorer")
    opened = Store.open_snapshot if snapshot else Store.open_sealed if sealed else Store.open_readonly
    with opened(path) as found, Explorer(found) as explorer:
        try:
            run_async(_answering(explorer, place, open_))
        except Stopped:
            say("The explorer is stopped.")


async def _answering(explorer: Explorer, place: Place, opens: bool) -> None:
    """Serve the explorer until cancelled."""
    import webbrowser

    from rrti_sgl.programs.explorer.app import create_app
    from rrti_sgl.programs.web.serving import serve_app, url_of

    with place.listen() as listening:
        url = f"{url_of(listening)}/" + (f"?key={place.endpoint_key}" if place.endpoint_key else "")
        say(f"explorer  {url}")
        say("Ctrl-C stops it.")
        if opens:
            webbrowser.open(url)
        app = create_app(explorer, place.endpoint_key, local=place.local)
        await serve_app(app, listening, most_connections=256, grace_s=2)
