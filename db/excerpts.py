"""Some samples of a store as a store of their own, in memory: statistics of them alone are made as those of any other."""

from __future__ import annotations

from collections.abc import Collection

import duckdb

from rrti_sgl.db import connection as opening
from rrti_sgl.db import relations
from rrti_sgl.db.store import MEMORY_LIMIT, Store

_LISTS = ", ".join(f"{side}_topk_{what}" for side in ("base", "reasoning") for what in ("ids", "logprobs"))
# Table -> its rows. $runs and $samples are lists of which each sample has an entry.
_OF_SAMPLES = "(run_id, sample_id) IN (SELECT (unnest($runs), unnest($samples)))"
_ROWS = {
    "runs": "FROM runs WHERE list_contains($runs, run_id) AND len($samples) > 0",
    "problems": f"""
        FROM problems WHERE (problem_set, problem_id) IN (
            SELECT (problem_set, problem_id) FROM samples JOIN runs USING (run_id) WHERE {_OF_SAMPLES})
    """,
    "stored_samples": f"FROM samples WHERE {_OF_SAMPLES}",
    # What a compact row says is written out: numbers are those of the whole store.
    "exact_tokens": f"SELECT * EXCLUDE ({_LISTS}) FROM tokens WHERE {_OF_SAMPLES} ORDER BY run_id, sample_id, position",
}


def excerpt(store: Store, samples: Collection[tuple[str, str]]) -> Store:
    """A store of some samples, for reading; closed on its own, it does not need the other one.

    It has their runs, problems and tokens, these without both models' lists of candidates. Samples that they continue are
    there where they are among them.

    Args:
        store: open.
        samples: run id and sample id of each.

    Raises:
        StoreError: they do not fit into the memory that a store may take.
    """
    runs, ids = zip(*samples, strict=True) if samples else ((), ())
    chosen = {"runs": list(runs), "samples": list(ids)}
    connection = opening.connect_memory(MEMORY_LIMIT, spill=True)
    try:
        relations.create_empty(connection)
        for name, rows in _ROWS.items():
            connection.register("chosen_rows", store.sql(rows, chosen))
            connection.execute(f"INSERT INTO {name} BY NAME FROM chosen_rows")
        connection.unregister("chosen_rows")
        opening.confine(connection, relations.runs_folder(store.path))
    except duckdb.Error as error:
        connection.close()
        raise opening.translate(error) from error
    return Store(store.path, connection, read_only=True)
