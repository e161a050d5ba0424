"""The static page in a real browser: it shows what the server's page shows, without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest

from rrti_sgl.programs.explorer.explorer import Explorer
from rrti_sgl.programs.explorer.export import chosen_samples, export
from tests.explorer.browsing import Watched, needs_browser, opened_browser

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(explored: Explorer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The export of every sample, opened from its file in a window that shows whole lists."""
    folder = tmp_path_factory.mktemp("sent") / "sent & kept"
    made = export(explored, chosen_samples(explored, limit=1000), folder)
    with opened_browser() as browser:
        watched = Watched(browser, viewport={"width": 1280, "height": 4000})
        watched.page.goto(made.page.as_uri())
        yield watched.page
        watched.close()
        assert watched.complaints == []


def show(page: Any, address: str) -> None:
    """Goes to an address of the page."""
    page.evaluate("address => { location.hash = address }", f"#{address}")
    page.wait_for_function("() => !document.querySelector('.waiting, [aria-busy=true]')")


QUERIES: list[dict[str, Any]] = [
    {},
    {"run": ["guided-1", "base-1"], "outcome": "wrong"},
    {"program": "diagnose", "sort": "tokens"},
    {"flipped": "base-1", "flip": "gained"},
    {"takeoversMin": 1, "takeoversMax": 2},
    {"word": "THEN"},
    {"word": "if"},
    {"word": "nothing"},
    {"tagged": "true"},
    {"tagged": "false"},
    {"tagged": "true", "word": "wait"},
    {"tagged": "false", "scoreMin": 1.5},
    {"scoreMin": 1.2, "scoreMax": 1.4},
    {"scoreMax": 0.03},
    {"from": 3, "to": 5},
    {"from": 3, "to": 5, "tagged": "true"},
    {"from": 11, "scoreMin": 0.0},
    {"word": "so", "to": 2, "scoreMax": 0.5},
    {"text": "THEN WAIT"},
    {"text": "2+2", "run": "guided-1", "sort": "maxScore", "order": "up"},
    {"text": "7 7", "word": "add", "outcome": "right"},
]


def test_filters_select_what_the_server_selects(page: Any, explored: Explorer) -> None:
    sizes = set()
    for query in QUERIES:
        asked = {name: value if isinstance(value, list) else [str(value)] for name, value in query.items()}
        rows = explored.answer("samples", asked | {"limit": ["1000"]})["rows"]
        show(page, f"/?{urlencode(query, doseq=True)}")
        page.wait_for_function("n => document.querySelector('.total').textContent.split(' ')[0] === n", arg=str(len(rows)))
        links = page.locator(".row a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
        assert sorted(links) == sorted(f"#/sample/{row['run']}/{row['sample']}" for row in rows), query
        sizes.add(len(rows))
    assert len(sizes) > 10


def test_partners_are_the_servers(page: Any, explored: Explorer) -> None:
    for row in explored.answer("samples", {"limit": ["1000"]})["rows"][::7]:
        at = f"{row['run']}/{row['sample']}"
        show(page, f"/sample/{at}")
        page.wait_for_selector(f".partners a[href*='compare/{at}/']")
        links = page.locator(".partners a[href*=compare]").evaluate_all("all => all.map(a => a.getAttribute('href'))")
        partners = explored.answer(f"partners/{at}", {})
        assert links == [f"#/compare/{at}/{other['run']}/{other['sample']}" for other in partners]


STATISTICS = ["budget?run=guided-1", "position?run=guided-1", "position?p=0.2", "planning?run=guided-1&p=0.2", "planning"]


@pytest.mark.parametrize("address", STATISTICS)
def test_points_lead_to_the_tokens_that_the_server_finds(address: str, page: Any, explored: Explorer) -> None:
    name, _, query = address.partition("?")
    points = explored.answer(f"statistics/{name}", parse_qs(query))["points"]
    found = 0
    for place, point in enumerate(points):
        if point["tokens"] is None:
            continue
        asked = {
            key: [str(value).lower() if isinstance(value, bool) else str(value)] for key, value in point["tokens"].items()
        }
        hits = explored.answer("tokens", asked | {"limit": ["1000"]})
        show(page, f"/statistics/{address}{'&' if query else '?'}point={place}")
        page.wait_for_function(
            "n => document.querySelector('.hits .dim')?.textContent.split(/[ +]/)[0] === n", arg=str(min(100, len(hits)))
        )
        parts = (
            "a => [a.getAttribute('href'), a.querySelector('.before').textContent, a.querySelector('.after').textContent]"
        )
        shown = page.locator(".hit a").evaluate_all(f"all => all.map({parts})")
        places = [f"#/sample/{hit['run']}/{hit['sample']}?at={hit['position']}" for hit in hits]
        assert shown == [[to, hit["before"], hit["after"]] for to, hit in zip(places, hits, strict=True)][: len(shown)]
        assert len(shown) >= min(60, len(hits))
        found += len(shown)
    assert found > 0


def test_a_share_of_the_tokens_is_chosen_on_the_page(page: Any) -> None:
    show(page, "/statistics/position?run=guided-1&point=3")
    title = page.inner_text("h1")
    page.select_option(".choices select >> nth=1", label="20%")
    page.wait_for_selector(f"h1:text-is('{title.replace('1%', '20%')}')")
    assert page.url.endswith("#/statistics/position?run=guided-1&p=0.2")
