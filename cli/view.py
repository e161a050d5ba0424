"""`rrti view`: a store in the browser, sample by sample and token by token."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rrti_sgl.cli.api import KEY_VARIABLE, Port, endpoint_key
from rrti_sgl.cli.options import Trust, with_options
from rrti_sgl.cli.pairing import PairOptions, in_models
from rrti_sgl.cli.signals import Stopped, run_async
from rrti_sgl.cli.sql import Sealed, Snapshot
from rrti_sgl.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from rrti_sgl.db.store import Store
    from rrti_sgl.programs.explorer.branching import Branches
    from rrti_sgl.programs.explorer.explorer import Explorer
    from rrti_sgl.programs.running.session import PairSession
    from rrti_sgl.programs.web.serving import Place

DEFAULT = Path("traces.duckdb")
_in_export = partial(typer.Option, rich_help_panel="Export")


@with_options(["special_tokens"])
def view(
    store: Annotated[Path | None, typer.Argument(metavar="STORE", help="The trace store; same as --db.")] = None,
    db: Annotated[Path, typer.Option(help="The trace store.")] = DEFAULT,
    sealed: Sealed = False,
    snapshot: Snapshot = False,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this machine's own need a key.")
    ] = "127.0.0.1",
    port: Port = 0,
    endpoint_key_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the key that a browser has to show; made if it is not there. Or {KEY_VARIABLE}."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the address in the browser.")] = True,
    export: Annotated[
        Path | None, _in_export(metavar="FOLDER", help="Write a page of chosen samples that needs no server.")
    ] = None,
    run: Annotated[list[str] | None, _in_export(help="Of this run: id, prefix of one, or program; repeat.")] = None,
    sample: Annotated[list[str] | None, _in_export(help="This sample: id, or its first digits; repeat.")] = None,
    filters: Annotated[
        str, _in_export(metavar="QUERY", help="That the page's filters leave, as in its address: outcome=wrong&word=wait.")
    ] = "",
    limit: Annotated[int, _in_export(min=1, max=10_000, help="At most so many.")] = 100,
    branch: Annotated[
        bool, in_models("--branch", help="Go on from tokens; starts a pair where no address is given.")
    ] = False,
    trust: Trust = None,
    *,
    pair: PairOptions,
    options: dict[str, Any],
) -> None:
    """Look at a store in the browser: samples, both models' candidates at each token, two runs side by side.

    It is read, and stays as it is. With the models of its runs, addresses or `--branch`, a token can be forced and gone on
    from; each finished branch is then stored in it. Ctrl-C ends it. With `--export` it ends by itself.
    """
    from rrti_sgl.db.store import Store
    from rrti_sgl.errors import UsageError, command
    from rrti_sgl.programs.explorer.explorer import Explorer

    if store is not None and db != DEFAULT:
        raise UsageError("The store is named twice.", "Give STORE, or --db.")
    if sealed and snapshot:
        raise UsageError(
            "--sealed and --snapshot were both given.", "A snapshot has the sealed runs, too: leave --sealed out."
        )
    if export is None and (run or sample or filters):
        raise UsageError(
            "--run, --sample and --filters choose what is written.", "Give --export FOLDER, or filter on the page."
        )
    pair.check_servers("a branch")
    path = store or db
    opened = Store.open_snapshot if snapshot else Store.open_sealed if sealed else Store.open_readonly
    if export is not None:
        with opened(path) as found, Explorer(found) as explorer:
            return _written(explorer, run or (), sample or (), filters, limit, export)
    from rrti_sgl.programs.web import check_installed

    otherwise = f"Or write a page that needs no server: {command('view', export='FOLDER')}."
    check_installed("explorer", "fastapi", "uvicorn", otherwise=otherwise)
    from rrti_sgl.programs.running.settings import settings_from
    from rrti_sgl.programs.web.serving import Place

    place = Place(host, port, endpoint_key(endpoint_key_file), "explorer")
    named = (pair.base_url, pair.reasoning_url, pair.fused_url, pair.fused, pair.base, pair.reasoning)
    try:
        if not branch and not any(named):
            with opened(path) as found, Explorer(found) as explorer:
                return run_async(_answering(explorer, place, open_))
        if sealed or snapshot:
            raise UsageError("Branches are stored, and --sealed and --snapshot only read.", "Leave them out.")
        with Store.open(path, create=False) as found, pair.open() as address:
            special_tokens = settings_from("base", **options).special_tokens
            run_async(_branching(found, pair.session(address, special_tokens), trust or (), place, open_))
    except Stopped:
        say("The explorer is stopped.")


def _written(
    explorer: Explorer, runs: Sequence[str], samples: Sequence[str], filters: str, limit: int, folder: Path
) -> None:
    """Write chosen samples as a folder, and say what it is."""
    from urllib.parse import parse_qs

    from rrti_sgl.programs.explorer.asked import FiltersAsked, read
    from rrti_sgl.programs.explorer.export import chosen_samples, export

    address, mark, query = filters.partition("?")
    asked = read(FiltersAsked, parse_qs(query if mark and "=" not in address else filters))
    made = export(explorer, chosen_samples(explorer, runs, samples, limit, asked), folder)
    say(f"{made.samples} samples, {made.bytes / 1e6:.1f} MB: open {made.page}")


async def _branching(
    store: Store, opening: AbstractAsyncContextManager[PairSession], trust: Sequence[str], place: Place, opens: bool
) -> None:
    """Serve the explorer of a store that is open for writing, with its models, until cancelled."""
    from rrti_sgl.programs.explorer.branching import Branches
    from rrti_sgl.programs.explorer.explorer import Explorer

    async with opening as session:
        with Explorer(store, session.pair.vocabulary, branching=True) as explorer:
            await _answering(explorer, place, opens, Branches(explorer, session, trust))


async def _answering(explorer: Explorer, place: Place, opens: bool, branches: Branches | None = None) -> None:
    """Serve the explorer until cancelled."""
    import asyncio
    import webbrowser

    from rrti_sgl.programs.explorer.app import create_app
    from rrti_sgl.programs.web.serving import serve_app, url_of

    with place.listen() as listening:
        url = f"{url_of(listening)}/" + (f"?key={place.endpoint_key}" if place.endpoint_key else "")
        say(f"explorer  {url}")
        say("Ctrl-C stops it.")
        if opens:
            webbrowser.open(url)
        app = create_app(explorer, place.endpoint_key, local=place.local, branches=branches)
        warming = asyncio.create_task(asyncio.to_thread(explorer.warm))
        try:
            await serve_app(app, listening, most_connections=256, grace_s=2)
        finally:
            await asyncio.gather(warming, return_exceptions=True)  # it reads the store
