"""Chromium, and what a page looks like in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip

# What lays text out: elements with text of their own, and where that text is. What is
# `hidden` is for screen readers.
SEEN = """
const seen = [...document.querySelectorAll('body *')].filter(
  e => e.checkVisibility() && !e.closest('.hidden') && [...e.childNodes].some(
    n => n.nodeType === Node.TEXT_NODE && n.textContent.trim()));
const scrolls = e => e.closest('.scroll');
const told = e => e.tagName + ' ' + e.textContent.trim().slice(0, 60);
"""

CUT = (
    SEEN
    + """
const clipped = [...document.querySelectorAll('body *')].filter(e => {
  const {overflowX} = getComputedStyle(e);
  return e.checkVisibility() && !e.closest('.hidden') && e.clientWidth
    && e.scrollWidth > e.clientWidth + 1 && ['hidden', 'clip'].includes(overflowX);
});
const outside = seen.filter(e => {
  const range = document.createRange();
  range.selectNodeContents(e);
  const box = range.getBoundingClientRect();
  return !scrolls(e) && (box.left < -1 || box.right > innerWidth + 1);
});
return [...clipped, ...outside].map(told);
"""
)

OVERLAPS = (
    SEEN
    + """
const boxes = seen.flatMap(e => {
  const range = document.createRange();
  return [...e.childNodes].filter(
    n => n.nodeType === Node.TEXT_NODE && n.textContent.trim()
  ).flatMap(n => {
    range.selectNodeContents(n);
    return [...range.getClientRects()].map(box => [e, box]);
  });
});
const found = [];
boxes.forEach(([e, a], i) => boxes.slice(i + 1).forEach(([f, b]) => {
  const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  // Line boxes of neighbouring lines touch; letters do not.
  if (width > 1 && height > 4) found.push(told(e) + ' / ' + told(f));
}));
return found;
"""
)

PALE = (
    SEEN
    + """
const rgb = colour => colour.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const ground = e => {
  for (; e; e = e.parentElement) {
    const [r, g, b, a = 1] = rgb(getComputedStyle(e).backgroundColor);
    if (a === 1) return [r, g, b];
  }
  throw new Error('no ground');
};
return seen.map(e => {
  const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  return [ratio, told(e)];
}).filter(([ratio]) => ratio < 4.5);
"""
)

BROKEN_IMAGES = """
return [...document.images].filter(i => !(i.complete && i.naturalWidth)).length;
"""


FAULTS = {
    "cut": CUT,
    "overlaps": OVERLAPS,
    "pale": PALE,
    "broken": BROKEN_IMAGES,
}
GOOD_LOOKS = {"cut": [], "overlaps": [], "pale": [], "broken": 0}


@contextmanager
def chromium() -> Iterator[Any]:
    """The Chromium that is installed, as a browser of playwright; skips without one."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("no chromium is installed to open the page with")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=list(CHROMIUM_FLAGS)
        )
        yield browser
        browser.close()


def looks(tab: Any) -> dict[str, Any]:
    """What is wrong with how a page looks, by the kind of fault."""
    return {name: tab.evaluate(f"() => {{ {how} }}") for name, how in FAULTS.items()}
