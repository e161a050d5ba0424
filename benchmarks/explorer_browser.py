"""How long one waits for the explorer in a browser: the first page of 10^5 samples, a sample of 8,000 tokens, a hover.

python benchmarks/explorer_browser.py 100000

Times are the page's own: from the navigation's start, or the event's time stamp, to the frame after the one in which
what was asked for stands in the document. Needs Chromium and the playwright package. The store is made once, under
build/explorer.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import explorer_store
import numpy as np
from playwright.sync_api import Page, sync_playwright

from rrti_sgl.db.store import Store

REPEATED = 5
HOVERED = 120  # tokens
REACHED_MS = 250  # between scrolling to a place and pointing at a token there
# Notes when what is waited for has been painted: `painted(selector)` from the navigation, `hovers` from each pointer event.
INSTRUMENTS = """
const whenPainted = (there, then) => {
  const look = () => there() ? requestAnimationFrame(() => then(performance.now())) : requestAnimationFrame(look);
  look();
};
window.painted = selector => new Promise(done => whenPainted(() => document.querySelector(selector), done));
window.hovers = [];
addEventListener('pointermove', event => {
  const at = event.target.closest?.('#text .t')?.dataset.i;
  if (at === undefined || at === window.lastHovered) return;
  window.lastHovered = at;
  let facts = null;
  const shown = () => document.querySelector('.look')?.dataset.at === at;
  whenPainted(shown, now => { facts = now - event.timeStamp });
  whenPainted(() => shown() && document.querySelector('.pairrow.emitted'),
              now => window.hovers.push({at: Number(at), facts, candidates: now - event.timeStamp}));
}, {capture: true});
"""


def main(n_samples: int) -> None:
    path = explorer_store.build(n_samples)
    with Store.open_readonly(path) as store:
        query = "SELECT sample_id FROM samples WHERE run_id = $run"
        long = store.sql(query, {"run": explorer_store.LONG_RUN}).column(0)[0].as_py()
        counts = store.sql("SELECT count(*) AS samples, sum(n_tokens)::BIGINT AS tokens FROM samples").to_pylist()[0]
    with served(path) as (url, started_s), sync_playwright() as driver:
        executable = shutil.which("chromium") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        rows: dict[str, Any] = {**counts, "server_starts_s": round(started_s, 2)}
        rows["first_page_ms"] = opened(browser, url, ".row a")
        rows["sample_ms"] = opened(browser, f"{url}sample/{explorer_store.LONG_RUN}/{long}", "#text .t")
        page = new_page(browser)
        page.goto(f"{url}sample/{explorer_store.LONG_RUN}/{long}?at=0")
        page.wait_for_selector(".pairrow.emitted")
        rows["hover_ms"] = hovered(page)
        rows["drag_ms"] = dragged(page)
        rows["lists_ms"] = {query: listed(page, query) for query in QUERIES}
        browser.close()
    print(json.dumps(rows, indent=2))


QUERIES = ("sort=maxScore", "outcome=wrong&flipped=base", "word=wait", "scoreMin=3&from=0&to=20", "text=question+p00017")


@contextmanager
def served(path: Path) -> Iterator[tuple[str, float]]:
    """`rrti view` of a store: its address, and seconds until it said it."""
    command = [sys.executable, "-m", "rrti_sgl.cli.main", "view", str(path), "--no-open"]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        try:
            yield url, time.perf_counter() - begin
        finally:
            process.send_signal(signal.SIGINT)


def new_page(browser: Any) -> Page:
    page: Page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.add_init_script(INSTRUMENTS)
    return page


def opened(browser: Any, address: str, selector: str) -> dict[str, float]:
    """Of fresh windows without a cache: until the document has come, and until what one looks for is painted."""
    came, painted = [], []
    for _ in range(REPEATED):
        page = new_page(browser)
        page.goto(address)
        painted.append(page.evaluate("selector => window.painted(selector)", selector))
        came.append(page.evaluate("performance.getEntriesByType('navigation')[0].responseEnd"))
        page.context.close()
    return {
        "document": round(float(np.median(came))),
        "painted": round(float(np.median(painted))),
        "most": round(max(painted)),
    }


def hovered(page: Page) -> dict[str, dict[str, float]]:
    """Tokens all over the text: until its facts are shown, and until both models' candidates are."""
    rng = np.random.default_rng(0)
    for at in rng.integers(0, explorer_store.LONG, HOVERED // 10):
        page.evaluate("at => document.querySelector(`#text .t[data-i='${at}']`).scrollIntoView({block: 'center'})", int(at))
        page.wait_for_timeout(REACHED_MS)
        for step in range(10):
            page.hover(f"#text .t[data-i='{min(explorer_store.LONG - 1, int(at) + 3 * step)}']")
            page.wait_for_timeout(60)
    found = page.evaluate("window.hovers")
    return {name: summary([hover[name] for hover in found]) for name in ("facts", "candidates")}


def dragged(page: Page) -> dict[str, float]:
    """The threshold moved by its keys: all tokens are decided anew."""
    times = []
    for key in ["PageUp", "PageDown"] * 10:
        page.evaluate(
            "() => addEventListener('keydown', event => requestAnimationFrame(() => requestAnimationFrame(() => {"
            "window.dragged = performance.now() - event.timeStamp })), {once: true, capture: true})"
        )
        page.press(".threshold", key)
        page.wait_for_function("() => window.dragged !== undefined")
        times.append(page.evaluate("() => { const took = window.dragged; window.dragged = undefined; return took }"))
    return summary(times)


def listed(page: Page, query: str) -> float:
    """The first part of a list that was not asked for before, as the page reads it."""
    read = """async query => {
        const begin = performance.now();
        await (await fetch('/data/samples?' + query)).json();
        return performance.now() - begin;
    }"""
    return round(page.evaluate(read, query))


def summary(times: list[float]) -> dict[str, float]:
    return {
        "n": len(times),
        "median": round(float(np.median(times))),
        "p95": round(float(np.quantile(times, 0.95))),
        "most": round(max(times)),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
