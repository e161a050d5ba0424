"""The page in a real browser: what people do with it, and that it neither complains nor runs what a store holds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.programs.explorer.explorer import Explorer
from rrti_sgl.programs.explorer.export import chosen_samples, export
from rrti_sgl.science.threshold import ThresholdRule
from rrti_sgl.serving.server import ServedPair
from tests.explorer.browsing import (
    LENGTH,
    PROBLEMS,
    ROLLING,
    RULE,
    VOCABULARY,
    Watched,
    needs_browser,
    opened_browser,
    served_store,
    shown,
    views,
    write_continued,
    write_store,
)
from tests.hostile import make_hostile_store

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with opened_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("looked") / "traces.duckdb")


@pytest.fixture(scope="module")
def url(store_path: Path) -> Iterator[str]:
    with served_store(store_path) as address:
        yield address


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    watched = Watched(browser)
    yield watched.page
    watched.close()
    assert watched.complaints == []


@pytest.fixture(scope="module")
def sample(store_path: Path) -> dict[str, Any]:
    """A guided sample with a takeover that changed the token after some tokens, and the base run's of its problem."""
    with Store.open_readonly(store_path) as store:
        found = store.sql(
            """
            SELECT g.sample_id AS guided, b.sample_id AS base, g.problem_id, g.n_takeovers, b.n_tokens - 6 AS common
            FROM samples AS g JOIN samples AS b USING (problem_id)
            WHERE g.run_id = 'guided-1' AND b.run_id = 'base-1' AND g.n_changed > 0 AND b.n_tokens - 6 BETWEEN 3 AND 12
            ORDER BY g.n_takeovers DESC, problem_id LIMIT 1
            """
        ).to_pylist()[0]
        tokens = store.sql(
            "SELECT * FROM tokens WHERE run_id = 'guided-1' AND sample_id = $s ORDER BY position", {"s": found["guided"]}
        )
    return found | {"tokens": tokens.to_pylist()}


def total(page: Any) -> int:
    page.wait_for_selector(".list[aria-busy=false]")
    return int(page.inner_text(".total").split()[0].replace(",", ""))


def test_filters_are_in_the_address(page: Any, url: str) -> None:
    page.goto(url)
    assert total(page) == 2 * PROBLEMS
    page.select_option("select[name=program]", "guided")
    page.wait_for_url("**/?program=guided")
    assert total(page) == PROBLEMS
    page.select_option("select[name=outcome]", "right")
    right = sum(i % 3 != 1 for i in range(PROBLEMS))
    page.wait_for_function(f"() => document.querySelector('.total').textContent.startsWith('{right} ')")
    page.select_option("select[name=flipped]", "base-1")
    page.select_option("select[name=flip]", "gained")
    gained = sum(i % 3 != 1 and i % 4 != 0 for i in range(PROBLEMS))
    page.wait_for_function(f"() => document.querySelector('.total').textContent.startsWith('{gained} ')")
    page.reload()
    assert total(page) == gained
    assert page.input_value("select[name=flip]") == "gained"
    page.click("text=Clear")
    page.fill("input[name=text]", "PERSON 12?")
    page.wait_for_url("**text=PERSON*")
    assert total(page) == 2
    page.fill("input[name=text]", "nobody asks this")
    page.wait_for_selector("text=No sample is like this")


def test_runs_select_their_samples_and_columns_sort(page: Any, url: str) -> None:
    page.goto(url)
    page.check(".runs label:has-text('guided') input")
    page.wait_for_url("**run=guided-1*")
    assert total(page) == PROBLEMS
    page.click("role=columnheader >> text=Takeovers")
    page.wait_for_url("**sort=takeovers&order=down*")
    page.wait_for_selector("[role=columnheader][aria-sort=descending]:has-text('Takeovers')")
    page.wait_for_selector(".list[aria-busy=false]")
    shown = [int(text) for text in page.locator(".row .c-takeovers").all_inner_texts()]
    assert shown == sorted(shown, reverse=True)
    assert shown[0] > shown[-1]


def test_thousands_of_rows_are_a_few_elements(page: Any, url: str) -> None:
    page.goto(url)
    total(page)
    page.focus(".row a >> nth=0")
    page.keyboard.press("End")
    last = f"[role=row][aria-rowindex='{2 * PROBLEMS + 1}']"
    page.wait_for_function(f"() => document.activeElement.dataset.index === '{2 * PROBLEMS - 1}'")
    assert f"person {PROBLEMS - 1}" in page.inner_text(last)
    assert page.locator(".row").count() < 60
    page.keyboard.press("ArrowUp")
    page.wait_for_function(f"() => document.activeElement.dataset.index === '{2 * PROBLEMS - 2}'")
    page.keyboard.press("Enter")
    page.wait_for_selector("#text .t")
    page.go_back()
    page.wait_for_selector(last)  # where one was


def boxes(page: Any) -> Any:
    """Where things stand that a hover must not move."""
    return page.evaluate(
        "['#text', '.strip', '.look', '.candidates', '.legend', '.partners'].map(s => {"
        "const b = document.querySelector(s).getBoundingClientRect(); return [b.x, b.y, b.width, b.height] })"
    )


def test_hover_shows_both_models_and_moves_nothing(page: Any, url: str, sample: dict[str, Any]) -> None:
    page.goto(f"{url}/sample/guided-1/{sample['guided']}")
    page.wait_for_selector(".partners table")
    page.wait_for_selector(".pairrow.emitted")
    before = boxes(page)
    page.evaluate(
        "window.written = 0;"
        "new MutationObserver(all => { window.written += all.length })"
        ".observe(document.querySelector('#text'), {childList: true, subtree: true})"
    )
    for at in (0, 5, LENGTH - 1):
        token = sample["tokens"][at]
        page.hover(f"#text .t[data-i='{at}']")
        page.wait_for_selector(f".look[data-at='{at}'] .pairrow.emitted")
        text = page.inner_text(".look")
        assert f"at {at}" in text
        assert re.search(rf"score\n{token['score']:.2f}"[:-1], text)
        assert page.inner_text(".pairrow.emitted .token").removeprefix("▸") == VOCABULARY[token["token_id"]].replace(
            " ", "␣"
        )
        assert next(value for value in page.inner_text(".pairrow.emitted").split() if "%" in value) in ("60.0%", "60.1%")
        assert "rank 1" in text
        assert boxes(page) == before
    page.mouse.move(2, 2)
    page.wait_for_selector(".look:not(.hovering)")
    assert page.evaluate("window.written") == 0


def test_takeovers_show_what_base_had_drawn(page: Any, url: str, sample: dict[str, Any]) -> None:
    page.goto(f"{url}/sample/guided-1/{sample['guided']}")
    page.wait_for_selector("#text .t")
    changed = [t["position"] for t in sample["tokens"] if t["base_token_id"] != t["token_id"]]
    assert page.locator("#text s").all_inner_texts() == [sample["tokens"][at]["base_token_text"] for at in changed]
    taken = page.locator("#text .t.taken").evaluate_all("all => all.map(t => Number(t.dataset.i))")
    assert taken == [t["position"] for t in sample["tokens"] if t["fired"]]
    assert (
        f"at={changed[0]}" in page.wait_for_function("() => location.search.includes('at=') && location.search").json_value()
    )


def test_shades_follow_the_metric(page: Any, url: str, sample: dict[str, Any]) -> None:
    page.goto(f"{url}/sample/guided-1/{sample['guided']}?metric=entropy_base")
    page.wait_for_selector("#text .t[data-h='8']")
    values = [token["entropy_base"] for token in sample["tokens"]]
    shades = page.locator("#text .t").evaluate_all("all => all.map(t => Number(t.dataset.h || 0))")
    order = np.argsort(values)
    assert [shades[i] for i in order] == sorted(shades)
    page.select_option(".controls select", "none")
    page.wait_for_function("() => document.querySelectorAll('#text .t[data-h]').length === 0")
    page.wait_for_url("**metric=none*")


def replayed(sample: dict[str, Any], tau: float, lambda_: float | None) -> list[int]:
    """The positions at which the library's rule fires, on what is stored."""
    column = {
        name: np.array([math.nan if t[name] is None else t[name] for t in sample["tokens"]])
        for name in ("score", "local_mean")
    }
    rule = ThresholdRule(tau, lambda_, RULE.window, RULE.warmup)
    return np.flatnonzero(rule.fires(column["score"], column["local_mean"], np.arange(LENGTH, dtype=np.int32))).tolist()


def lit(page: Any) -> tuple[float, list[int]]:
    """The threshold as it stands, and the tokens that are lit up."""
    tau = float(page.get_attribute(".threshold", "aria-valuenow"))
    found = page.locator("#text .t.fires").evaluate_all("all => all.map(t => Number(t.dataset.i))")
    assert int(page.get_attribute(".counts", "data-fires")) == len(found)
    return tau, found


def test_a_dragged_threshold_fires_as_the_library_does(page: Any, url: str, sample: dict[str, Any]) -> None:
    page.goto(f"{url}/sample/guided-1/{sample['guided']}")
    page.wait_for_selector(".threshold")
    tau, found = lit(page)
    assert (tau, found) == (RULE.tau, [t["position"] for t in sample["tokens"] if t["fired"]])
    seen = {len(found)}
    box = page.locator(".plotted").bounding_box()
    page.hover(".threshold", position={"x": 60, "y": 9})
    page.mouse.down()
    for share in (0.95, 0.8, 0.6, 0.3, 0.02):
        page.mouse.move(box["x"] + 60, box["y"] + share * box["height"])
        page.wait_for_function(f"() => document.querySelector('.threshold').getAttribute('aria-valuenow') !== '{tau}'")
        tau, found = lit(page)
        assert found == replayed(sample, tau, RULE.lambda_)
        seen.add(len(found))
    page.mouse.up()
    assert len(seen) > 3
    page.wait_for_url(f"**tau={tau:g}*")
    page.uncheck(".lambda input[type=checkbox]")
    for key in ("Home", "PageUp", "ArrowUp", "ArrowUp", "PageUp", "ArrowDown", "End"):
        page.press(".threshold", key)
        tau, found = lit(page)
        assert found == replayed(sample, tau, None), key
    assert found == []
    page.fill("input[aria-label='Threshold tau']", "0.4")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.threshold').getAttribute('aria-valuenow') === '0.4'")
    assert lit(page) == (0.4, replayed(sample, 0.4, None))
    page.wait_for_url("**tau=0.4*")
    page.reload()
    page.wait_for_selector("#text .t.fires")
    assert lit(page) == (0.4, replayed(sample, 0.4, None))  # the address has it
    page.click("text=As decoded")
    assert lit(page) == (RULE.tau, replayed(sample, RULE.tau, RULE.lambda_))


def test_keys_walk_the_text(page: Any, url: str, sample: dict[str, Any]) -> None:
    page.goto(f"{url}/sample/guided-1/{sample['guided']}?at=0")
    page.wait_for_selector(".look[data-at='0']")
    for _ in range(40):  # by keys alone
        if page.evaluate("document.activeElement.id") == "text":
            break
        page.keyboard.press("Tab")
    taken = [t["position"] for t in sample["tokens"] if t["fired"]]
    before = max(at for at in taken if at < LENGTH - 1)
    after = min(at for at in taken if at > 0)
    steps = [("ArrowRight", 1), ("End", LENGTH - 1), ("ArrowRight", LENGTH - 1), ("p", before)]
    steps += [("Home", 0), ("ArrowLeft", 0), ("n", after)]
    for key, at in steps:
        page.keyboard.press(key)
        page.wait_for_selector(f".look[data-at='{at}']")
        assert page.get_attribute("#text-chosen", "data-i") == str(at)
        assert page.get_attribute("#text", "aria-activedescendant") == "text-chosen"
    assert page.evaluate("getComputedStyle(document.querySelector('#text')).outlineStyle") == "solid"


def test_two_runs_side_by_side(page: Any, url: str, sample: dict[str, Any]) -> None:
    page.goto(f"{url}/sample/guided-1/{sample['guided']}")
    page.click("text=side by side")
    page.wait_for_selector(".sides .t")
    at, tokens = sample["common"], sample["tokens"]
    assert page.inner_text(".common").endswith("".join(VOCABULARY[t["token_id"]] for t in tokens[:at])[-12:])
    said = page.inner_text(".found")
    assert f"Alike up to token {at}" in said
    assert f"a takeover, base had drawn {tokens[at]['base_token_text']}" in said
    first = page.locator(".side").evaluate_all("all => all.map(s => s.querySelector('.t').textContent)")
    assert first == [VOCABULARY[tokens[at]["token_id"]].strip(), tokens[at]["base_token_text"]]
    assert page.locator(".side .ended").count() == 2


def test_points_of_statistics_lead_to_tokens(page: Any, url: str) -> None:
    page.goto(url)
    for name in page.locator(".top nav a").all_inner_texts()[1:]:
        page.click(f".top nav a:has-text('{name}')")
        page.wait_for_selector(".points button, .statistics .none")
        rows = page.locator(".points tbody tr")
        for place in range(rows.count()):
            rows.nth(place).locator("button").click()
            page.wait_for_selector(".hits .dim")
            if "0 tokens" not in page.inner_text(".hits") and page.locator(".hits .hit a").count():
                break
    page.goto(f"{url}/statistics/budget")
    page.click(".points tbody tr:has-text('guided') button")
    page.wait_for_selector(".hit a")
    token = page.inner_text(".hit >> nth=0 >> b")
    page.click(".hit a >> nth=0")
    page.wait_for_selector("#text-chosen.taken")
    assert page.inner_text("#text-chosen") == token


OVERLAPS = """() => {
    const all = [...document.querySelectorAll('.field, .plot')].map(each => each.getBoundingClientRect());
    const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    return all.filter((a, place) => all.slice(place + 1).some(b => meet(a, b))).length;
}"""


def test_narrow_and_dark(browser: Any, url: str, store_path: Path) -> None:
    watched = Watched(browser, viewport={"width": 400, "height": 800})
    page = watched.page
    for address in views(store_path, "guided-1", "base-1"):
        shown(page, url + address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, address
        assert page.evaluate(OVERLAPS) == 0, address
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            colours = page.evaluate(
                "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
            )
            bright = [sum(map(int, re.findall(r"\d+", colour))) > 384 for colour in colours]
            assert bright == ([True, False] if scheme == "light" else [False, True])
    watched.close()
    assert [said for said in watched.complaints if "400" not in said] == []  # a statistic that the store has not


def test_hostile_texts_stay_texts(browser: Any, tmp_path: Path) -> None:
    path = make_hostile_store(tmp_path / "hostile.duckdb")
    watched = Watched(browser)
    with served_store(path) as address:
        for view in views(path, "run-2", "run-1"):
            shown(watched.page, address + view)
            inside = watched.page.evaluate(
                "document.querySelectorAll('#page script, #page img, #page iframe, #page style').length"
            )
            assert inside == 0, view
            assert "alert(1)" in watched.page.inner_text("#page"), view
    watched.close()
    assert [said for said in watched.complaints if "400" not in said] == []


def test_what_is_not_there_is_said(browser: Any, url: str) -> None:
    watched = Watched(browser)
    for address, said in (("/nowhere", "There is no view /nowhere"), ("/sample/guided-1/ffffffffffff", "")):
        watched.page.goto(url + address)
        assert said in watched.page.inner_text("[role=alert]")
    watched.close()
    assert all("404" in said for said in watched.complaints)


@pytest.mark.server
def test_a_token_is_forced_and_the_pair_goes_on(browser: Any, served_pair: ServedPair, tmp_path: Path) -> None:
    """Real servers: a takeover is denied and made again; the second writes what the sample has, both are in the tree."""
    path = tmp_path / "traces.duckdb"
    watched = Watched(browser)
    page = watched.page
    with served_store(path, served_pair.base.url, served_pair.reasoning.url) as address:
        listed = page.request.get(f"{address}/data/samples?sort=changed&order=down&limit=1").json()["rows"][0]
        place = f"{listed['run']}/{listed['sample']}"
        known = page.request.get(f"{address}/data/sample/{place}").json()
        at = next(i for i, (own, drew) in enumerate(zip(known["ids"], known["baseDrewIds"], strict=True)) if own != drew)
        page.goto(f"{address}/sample/{place}?at={at}")
        page.get_by_role("radio", name="guided").check()
        for n, candidate in enumerate((".pairrow.struck", ".pairrow.emitted"), 1):
            page.click(f"{candidate} button")
            page.wait_for_function(f"() => document.querySelectorAll('.branch[data-state=finished]').length === {n}")
        again, denied = page.query_selector_all(".branch .text")
        rest = "".join(known["texts"][at:]).replace(" ", "")
        assert again.inner_text().replace(" ", "").endswith(rest)
        assert not denied.inner_text().replace(" ", "").endswith(rest)
        page.click(".branch >> nth=1 >> text=compare")
        page.wait_for_selector(".sides .t")
        assert f"token {at}" in page.inner_text(".found")
        page.goto(f"{address}/tree/{place}")
        page.wait_for_selector("#page a[href*='/sample/counterfactual-']")
        nodes = page.request.get(f"{address}/data/export/tree/{place}").json()["nodes"]
        assert sorted(node["arm"] for node in nodes) == ["denied", "taken"]
    watched.close()
    assert watched.complaints == []


def test_an_export_needs_no_server(browser: Any, store_path: Path, sample: dict[str, Any], tmp_path: Path) -> None:
    with Store.open_readonly(store_path) as store, Explorer(store) as explorer:
        rows = chosen_samples(explorer, limit=2 * PROBLEMS)
        made = export(explorer, rows, tmp_path / "sent & kept")
    watched = Watched(browser)
    page = watched.page
    page.goto(made.page.as_uri())
    assert total(page) == 2 * PROBLEMS
    page.select_option("select[name=program]", "guided")
    page.wait_for_function(f"() => document.querySelector('.total').textContent.startsWith('{PROBLEMS} ')")
    assert "#/?program=guided" in page.url
    page.select_option("select[name=flipped]", "base-1")
    page.select_option("select[name=flip]", "lost")
    lost = sum(i % 3 == 1 and i % 4 == 0 for i in range(PROBLEMS))
    page.wait_for_function(f"() => document.querySelector('.total').textContent.startsWith('{lost} ')")
    page.goto(f"{made.page.as_uri()}#/sample/guided-1/{sample['guided']}?tau=0.4")
    page.wait_for_selector(".pairrow.emitted")
    assert lit(page) == (0.4, replayed(sample, 0.4, RULE.lambda_))
    page.hover("#text .t[data-i='7']")
    page.wait_for_selector(".look[data-at='7'] .pairrow.emitted")
    page.click("text=side by side")
    page.wait_for_selector(".sides .t")
    assert f"Alike up to token {sample['common']}" in page.inner_text(".found")
    watched.close()
    assert watched.complaints == []


def test_a_branch_is_asked_for_with_what_was_changed_alone(page: Any, url: str, sample: dict[str, Any]) -> None:
    """No models here: the page is told that there are some, and what it sends is looked at."""
    sent: list[dict[str, Any]] = []

    def told(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace('"branching":false', '"branching":true'))

    def decoded(route: Any) -> None:
        sent.append(route.request.post_data_json)
        event = {"event": "failed", "message": "Nobody goes on.", "remedy": ""}
        route.fulfill(content_type="text/event-stream", body=f"data: {json.dumps(event)}\n\n")

    page.route("**/sample/**", told)
    page.route("**/data/branches", decoded)
    page.goto(f"{url}/sample/guided-1/{sample['guided']}?at=4")

    def go_on(n: int) -> dict[str, Any]:
        page.click(".pairrow.emitted button")
        page.wait_for_function(f"() => document.querySelectorAll('.branch[data-state=failed]').length === {n}")
        return {name: value for name, value in sent[-1].items() if name not in ("run", "sample", "position", "token")}

    assert go_on(1) == {"program": "base", "temperature": 0}
    page.get_by_role("radio", name="guided").check()
    assert page.input_value("[aria-label='Threshold tau of the branch']") == f"{RULE.tau:g}"
    assert page.input_value("[aria-label='Factor lambda of the branch']") == f"{RULE.lambda_:g}"
    assert go_on(2) == {"program": "guided", "temperature": 0}
    page.fill("[aria-label='Threshold tau of the branch']", "0.4")
    page.uncheck("[aria-label='Lambda of the branch']")
    assert go_on(3) == {"program": "guided", "temperature": 0, "tau": 0.4, "lambda": False}
    assert "guided, τ=0.400, no λ" in page.inner_text(".branchhead >> nth=0")
    page.check("[aria-label='Lambda of the branch']")
    page.fill("[aria-label='Factor lambda of the branch']", "3")
    page.fill("[aria-label='Threshold tau of the branch']", "")
    assert go_on(4) == {"program": "guided", "temperature": 0, "lambda": 3}


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    path = tmp_path_factory.mktemp("continued") / "traces.duckdb"
    ids = write_continued(path)
    with served_store(path) as address:
        yield address, ids


def test_no_lambda_is_offered_beside_a_rolling_mean(page: Any, continued: tuple[str, dict[str, str]]) -> None:
    """Both need the local mean, each of its own window: what is lit is what such a gate can decide."""
    url, ids = continued

    def told(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace('"branching":false', '"branching":true'))

    page.route("**/sample/**", told)
    for run, name in (("rolling-1", "root"), ("anew-1", "anew")):
        page.goto(f"{url}/sample/{run}/{ids[name]}?lambda=5")  # as an address from elsewhere may say
        page.wait_for_selector(".threshold")
        tau, found = lit(page)
        assert tau == ROLLING.tau
        assert found == page.locator("#text .t.taken").evaluate_all("all => all.map(t => Number(t.dataset.i))")
        assert page.inner_text(".strip figcaption").startswith("Mean of the last 3 scores by position.")
        page.get_by_role("radio", name="guided").check()
        assert page.inner_text(".guidedby").split() == ["τ", "mean", "of", "3", "scores"]
        assert page.locator(".lambda").count() == 0
        assert page.input_value("[aria-label='Threshold tau of the branch']") == f"{ROLLING.tau:g}"
        assert "rolling 3" in page.inner_text(".crumbs")


def test_bars_below_zero_go_to_the_left(page: Any, url: str) -> None:
    def told(route: Any) -> None:
        answer = route.fetch()
        aggregate = answer.json()
        for point, y in zip(aggregate["points"], (-1.0, 3.0, 0.0), strict=False):
            point |= {"y": y, "low": None, "high": None}
        aggregate["points"] = aggregate["points"][:3]
        route.fulfill(response=answer, json=aggregate)

    page.route("**/data/statistics/position*", told)
    shown(page, url)
    page.click("text=Positions")
    page.wait_for_selector(".points .track")
    bars = page.locator(".points .track span").evaluate_all(
        "all => all.map((bar) => [bar.className, parseFloat(bar.style.marginLeft), parseFloat(bar.style.width)])"
    )
    assert bars == [["below", 0, 25], ["", 25, 75], ["", 25, 0]]


def test_continuations_of_one_beginning_are_one_line(tmp_path: Path, page: Any) -> None:
    """More than a few are listed where they are asked for, by mouse or by key."""
    path = tmp_path / "traces.duckdb"
    ids = write_continued(path, "anew", times=7)
    with served_store(path) as url:
        shown(page, f"{url}/tree/rolling-1/{ids['root']}")
        lines = page.locator(".node:not(.root) .line")
        assert lines.count() == 3
        found = " ".join(lines.first.inner_text().split())
        assert found.startswith("7 continuations from the beginning, then guided 5 right, 2 wrong answers ")
        right, wrong = (
            page.locator(".lane").nth(1).locator("span").evaluate_all("all => all.map((bar) => parseFloat(bar.style.width))")
        )
        assert right / wrong == pytest.approx(5 / 2, rel=1e-4)
        assert "9 branches" in page.inner_text(".ended")
        assert "7 right, 2 wrong" in page.inner_text(".ended")
        lines.first.get_by_role("button", name="list").click()
        page.wait_for_function("() => document.querySelectorAll('.node').length === 11")
        group = page.locator(".node").nth(1)
        assert group.get_attribute("aria-expanded") == "true"
        assert [lines.nth(place).get_by_role("link", name="compare").count() for place in range(10)] == [0, *[1] * 9]
        group.focus()
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("() => document.querySelectorAll('.node').length === 4")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("() => document.querySelectorAll('.node').length === 11")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("() => document.activeElement?.dataset.place === '1'")
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("() => document.activeElement?.dataset.place === '0'")


def test_what_continues_a_beginning_says_where_it_left(page: Any, continued: tuple[str, dict[str, str]]) -> None:
    url, ids = continued
    shown(page, f"{url}/tree/rolling-1/{ids['root']}")
    lines = page.locator(".node:not(.root) .line").all_inner_texts()
    assert [re.search(r"(from the beginning|at \d+)", line)[0] for line in lines] == [  # type: ignore[index]
        *("from the beginning", f"at {LENGTH // 2}", f"at {LENGTH - 1}")
    ]
    assert page.locator(".lane > span").evaluate_all("all => all.every((bar) => parseFloat(bar.style.left) >= 0)")
    for name, common in (("anew", 2), ("half", LENGTH // 2 + 3)):
        for pair in (("rolling-1", ids["root"], "anew-1", ids[name]), ("anew-1", ids[name], "rolling-1", ids["root"])):
            shown(page, f"{url}/compare/{'/'.join(pair)}")
            assert f"Alike up to token {common};" in page.inner_text(".found")
    shown(page, f"{url}/compare/rolling-1/{ids['root']}/anew-1/{ids['whole']}")
    assert page.inner_text(".found") == f"Both are the same {LENGTH} tokens."
    shown(page, f"{url}/sample/anew-1/{ids['whole']}")
    assert "no token of its own" in page.inner_text(".detail")
    assert "counterfactual sentence" in page.inner_text(".crumbs")
    shown(page, f"{url}/sample/anew-1/{ids['anew']}")
    assert "branch from the beginning" in page.inner_text(".crumbs")
