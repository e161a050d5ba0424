"""Every text of the page is told from what lies behind it, light and dark: WCAG 2.2, level AA."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.explorer.browsing import Watched, needs_browser, opened_browser, served_store, shown, views, write_store

pytestmark = needs_browser
AA, LARGE, EDGE = 4.5, 3.0, 3.0  # of text, of large text, of the edge of a field

# Texts with the colour they have and the colours that lie behind them, painted one over the other from the page up.
FOUND = """() => {
  const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1});
  const ctx = canvas.getContext('2d', {willReadFrequently: true});
  const over = colours => {
    ctx.clearRect(0, 0, 1, 1);
    for (const colour of colours) { ctx.fillStyle = colour; ctx.fillRect(0, 0, 1, 1) }
    return [...ctx.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const behind = element => {
    const all = [];
    for (let at = element; at; at = at.parentElement) all.unshift(getComputedStyle(at).backgroundColor);
    return ['#fff', ...all];
  };
  const found = [];
  const note = (what, element, colour, backgrounds, style) => found.push({
    what, text: over([...backgrounds, colour]), back: over(backgrounds), size: parseFloat(style.fontSize),
    weight: Number(style.fontWeight), place: element.className || element.localName });
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement, style = getComputedStyle(element);
    if (!texts.currentNode.data.trim() || !element.getClientRects().length) continue;
    if (element.closest('noscript, script, :disabled')) continue;
    note(texts.currentNode.data.trim().slice(0, 30), element, style.color, behind(element), style);
    const bar = element.matches('.value') && element.parentElement.querySelector('.bar');  // it may lie under the number
    if (bar) note('on its bar', element, style.color, behind(bar), style);
  }
  for (const field of document.querySelectorAll('input:not([type=checkbox], [type=radio]), select, button')) {
    const style = getComputedStyle(field);
    if (field.matches(':disabled') || !field.getClientRects().length) continue;
    note('a value', field, style.color, behind(field), style);
    const placeholder = getComputedStyle(field, '::placeholder').color;
    if (field.placeholder) note('a placeholder', field, placeholder, behind(field), style);
    if (style.borderTopWidth !== '0px') note('edge', field, style.borderTopColor, behind(field.parentElement), style);
  }
  return found;
}"""
# Every shade, and a token that is pointed at, chosen or would fire, whatever the sample has.
MARKED = """() => document.querySelectorAll('#text .t').forEach((token, place) => {
  if (place < 9) token.dataset.h = place;
  token.classList.add(...[['pointed'], ['chosen'], ['fires'], ['taken', 'plan']][place % 4]);
  if (place > 12) token.classList.remove('pointed');
})"""


def luminance(colour: list[int]) -> float:
    """Relative luminance as WCAG defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[int], other: list[int]) -> float:
    """From 1, the same, to 21, black on white."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_measure() -> None:
    assert contrast([0, 0, 0], [255, 255, 255]) == 21
    assert round(contrast([119, 119, 119], [255, 255, 255]), 2) == 4.48  # known to miss AA
    assert round(contrast([118, 118, 118], [255, 255, 255]), 2) == 4.54  # known to pass


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[str]]]:
    """A browser, and an address of each view."""
    path = write_store(tmp_path_factory.mktemp("contrast") / "traces.duckdb")
    with served_store(path) as url, opened_browser() as browser:
        addresses = [f"{url}{view}" for view in views(path, "guided-1", "base-1")]
        yield browser, [*addresses, f"{url}/nowhere", f"{url}/?text=nobody", f"{url}/?takeoversMin=-1"]


@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("light", 1280),
        ("dark", 400),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("light", 400), ("dark", 1280))),
    ],
)
def test_every_text_is_told_from_what_is_behind_it(scheme: str, width: int, looked: tuple[Any, list[str]]) -> None:
    browser, addresses = looked
    watched = Watched(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
    low, kinds = [], set()
    for address in addresses:
        shown(watched.page, address)
        watched.page.evaluate(MARKED)
        for each in watched.page.evaluate(FOUND):
            large = each["size"] >= 24 or (each["size"] >= 18.66 and each["weight"] >= 700)
            least = EDGE if each["what"] == "edge" else LARGE if large else AA
            kinds.add((tuple(each["text"]), tuple(each["back"])))
            if (ratio := contrast(each["text"], each["back"])) < least:
                low.append((round(ratio, 2), each["what"], each["place"], address.partition("/")[2]))
    watched.close()
    assert sorted(set(low)) == []
    assert len(kinds) > 20, "shades, marks, links, notes"
