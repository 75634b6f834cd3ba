"""The page in a browser."""

import os
import re
from pathlib import Path

import pytest
from support.browser import GOOD_LOOKS, chromium, looks
from support.models import SENTENCES
from support.web import page_over, side_of

pytestmark = pytest.mark.slow

METADATA = [{"stars": i % 5, "kind": "news"} for i in range(len(SENTENCES))]
HOSTILE = [
    "<script>document.title='broken'</script><img src=x onerror=alert(1)>",
    "</ol></main>\"'&amp; ${7 * 7} {{ 7 * 7 }} javascript:alert(1)",
    "\u202egnirts desrever a\u2066 and one that does not end",
    "\x00\x07\x1b[31m\x9f and \ud800 half of a pair \ufeff",
    "https://example.org/" + "a_very_long_word_without_any_break_" * 8,
    "שלום וברכה 🎸 A mixed line, מעורב",
    "long " * 20_000,
]
UNSEEN = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
QUERY = "two dogs run in snow"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser):
    """Opens a page in a window of its own; notes requests, errors and dialogs."""
    contexts = []

    def opened(url, width=1280, scheme="light", **options):
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme, **options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        tab = context.new_page()
        tab.asked, tab.failed, tab.errors = [], [], []
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.on("requestfailed", lambda request: tab.failed.append(request.url))
        tab.on("console", lambda message: tab.errors.append(message.text))
        tab.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.on("dialog", lambda dialog: pytest.fail("a script ran"))
        tab.goto(url)
        tab.locator(".side").first.wait_for(state="attached")
        return tab

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def one():
    with page_over(side_of(SENTENCES, metadata=METADATA)) as url:
        yield url


@pytest.fixture(scope="module")
def two():
    sides = (
        side_of(SENTENCES, "the one", metadata=METADATA),
        side_of(SENTENCES, "the other", salt="x", longest=3),
    )
    with page_over(*sides) as url:
        yield url


@pytest.fixture(scope="module")
def hostile():
    metadata = [{text[:60]: text, "n": None, "b": True} for text in HOSTILE]
    sides = [side_of(HOSTILE, text, metadata=metadata) for text in HOSTILE[:2]]
    with page_over(*sides) as url:
        yield url


def texts(tab, side=0):
    return tab.locator(f"#results .side-{side} .hit .text").all_inner_texts()


def settled(tab, status="hits in"):
    tab.get_by_role("status").filter(has_text=status).first.wait_for()
    return tab


def test_what_is_typed_is_searched_for_at_once(one, open_page):
    tab = open_page(one)
    assert tab.locator(".examples button").count() == 3
    tab.get_by_label("Query", exact=True).fill(QUERY)
    settled(tab, "8 hits in")
    assert texts(tab)[0] == SENTENCES[2]
    shown = tab.locator(".hit .cosine").all_inner_texts()
    cosines = [float(text.replace("−", "-").split()[-1]) for text in shown]
    assert cosines == sorted(cosines, reverse=True)
    widths = tab.locator(".filled").evaluate_all(
        "all => all.map(e => e.clientWidth / e.parentElement.clientWidth)"
    )
    assert widths == pytest.approx([max(0, cosine) for cosine in cosines], abs=0.02)
    assert tab.locator(".plane .point").count() == 8
    assert tab.locator(".hit").first.locator("dd").all_inner_texts() == [
        "2", "2", "news",
    ]  # fmt: skip
    assert tab.locator(".tokens li").all_inner_texts() == [
        "[CLS]", *QUERY.split(), "[SEP]",
    ]  # fmt: skip
    tab.get_by_label("Hits", exact=True).fill("3")
    settled(tab, "3 hits in")
    assert tab.errors == []


def test_the_address_holds_what_is_seen(one, open_page):
    tab = open_page(one)
    tab.get_by_label("Query", exact=True).fill("A&B #1 100% 🎸 <b>")
    tab.get_by_label("Least cosine").fill("-0.5")
    tab.get_by_label("Hits", exact=True).fill("5")
    settled(tab)
    found = texts(tab)
    other = open_page(tab.url)
    assert other.get_by_label("Query", exact=True).input_value() == "A&B #1 100% 🎸 <b>"
    assert settled(other).get_by_label("Hits", exact=True).input_value() == "5"
    assert texts(other) == found
    # No server sees what is behind the #, nor does a log.
    assert not any("100" in url.partition("#")[0] for url in other.asked)
    other.evaluate("location.hash = 'q=rain'")
    settled(other, "8 hits in")
    assert other.get_by_label("Query", exact=True).input_value() == "rain"
    assert "rain" in other.title()


def test_a_cut_query_says_so(one, open_page):
    tab = settled(open_page(f"{one}/#q=" + "+".join("abcdefghijkl")))
    assert "does not see 4 further ones" in tab.locator(".cut").inner_text()
    assert tab.locator(".tokens li").count() == 10


def test_two_models_stand_side_by_side(two, open_page):
    tab = settled(open_page(f"{two}/#q=two+dogs"), "the other: 8 hits")
    tops = [
        tab.locator(f".side-{side} .hit").evaluate_all(
            "all => all.map(e => e.getBoundingClientRect().top)"
        )
        for side in (0, 1)
    ]
    assert tops[0] == pytest.approx(tops[1], abs=1)
    assert texts(tab, 0) != texts(tab, 1)
    rank = 1 + texts(tab, 1).index(texts(tab, 0)[0])
    first = tab.locator(".side-0 .hit").first.inner_text()
    assert f"also number {rank} of the other" in first
    names = tab.get_by_role("heading", level=2).all_inner_texts()
    assert names == ["the one", "the other"]


def test_a_pair_has_a_cosine_under_each_model(two, open_page):
    tab = open_page(two)
    tab.get_by_role("link", name="Sentence pair").click()
    tab.get_by_label("One sentence", exact=True).fill("It rains")
    assert tab.locator(".cosine").count() == 0
    tab.get_by_label("Another sentence").fill("it rains")
    settled(tab, "the other: cosine 1.000")
    assert tab.locator("#cosines .cosine").all_inner_texts() == ["cosine\n1.000"] * 2
    again = settled(open_page(tab.url), "the other: cosine 1.000")
    assert again.get_by_label("One sentence", exact=True).input_value() == "It rains"
    tab.go_back()
    assert tab.get_by_label("Query", exact=True).is_visible()


def test_everything_is_reached_and_done_by_keyboard(two, open_page):
    tab = open_page(two)
    focused = "document.activeElement.id || document.activeElement.className"
    seen = []
    for _ in range(6):
        tab.keyboard.press("Tab")
        seen.append(tab.evaluate(focused))
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert tab.evaluate(outline) == "solid", seen
    assert seen[:6] == ["skip", "to-search", "to-pair", "query", "k", "threshold"]
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.type("rain")
    tab.keyboard.press("Enter")
    settled(tab)
    assert "rain" in texts(tab)[0].lower()
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("Enter")
    tab.get_by_label("One sentence", exact=True).wait_for()
    tab.keyboard.press("Tab")
    tab.keyboard.type("rain")
    tab.keyboard.press("Tab")
    tab.keyboard.type("rain")
    settled(tab, "cosine 1.000")
    tab.evaluate("document.activeElement.blur()")
    assert tab.errors == []


@pytest.mark.parametrize(
    ("which", "width", "scheme"),
    [
        ("two", 1280, "light"),
        ("two", 320, "dark"),
        ("hostile", 320, "light"),
        ("hostile", 1280, "dark"),
    ],
)
def test_nothing_is_cut_pale_or_fetched_elsewhere(
    request, open_page, which, width, scheme
):
    url = request.getfixturevalue(which)
    tab = settled(open_page(f"{url}/#q=the&k=7", width, scheme))
    found = looks(tab)
    # Points may lie on one another.
    found["overlaps"] = [it for it in found["overlaps"] if not it.startswith("text ")]
    assert found == GOOD_LOOKS
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")
    assert {re.match(r"\w+://[^/]+", asked)[0] for asked in tab.asked} == {url}
    assert tab.errors == []


def test_hostile_texts_are_texts(hostile, open_page):
    tab = open_page(hostile)
    box = tab.get_by_label("Query", exact=True)
    first = tab.locator(".side-0 .hit .text").first
    for text in HOSTILE:
        # Typed, where NUL is no key.
        box.evaluate(
            "(e, text) => { e.value = text; e.dispatchEvent(new Event('input')); }",
            text,
        )
        expected = re.sub(UNSEEN, lambda it: f"U+{ord(it[0]):04X}", text[:400])
        start = "e => e.textContent.slice(0, 400)"
        for _ in range(100):
            if first.count() and first.evaluate(start) == expected[:400]:
                break
            tab.wait_for_timeout(50)
        assert first.evaluate(start) == expected[:400]
        assert not re.search(UNSEEN, tab.title())
    first.locator(".more").press("Enter")
    assert first.evaluate("e => e.textContent") == HOSTILE[-1]
    assert first.evaluate("e => e === document.activeElement")
    assert tab.locator("img, script:not([src])").count() == 0
    assert tab.errors == []


def test_the_policy_stops_what_would_be_injected(one, open_page):
    tab = open_page(one)
    script = """() => {
      const seen = [];
      addEventListener('securitypolicyviolation', e => seen.push(e.violatedDirective));
      const tries = [
        () => { document.body.innerHTML = '<b onclick="x">'; },
        () => { const s = document.createElement('script');
                s.textContent = 'window.ran = 1'; document.body.append(s); },
        () => document.body.setAttribute('onclick', 'window.ran = 1'),
        () => { document.body.append(Object.assign(new Image(),
                {src: 'http://example.org/x.png'})); },
        () => fetch('http://example.org/').catch(() => {}),
        () => eval('window.ran = 1'),
      ];
      // Not at once: what the debugger itself runs may do more.
      for (const attempt of tries) setTimeout(attempt);
      return new Promise(done => setTimeout(() => done([window.ran, seen]), 200));
    }"""
    ran, seen = tab.evaluate(script)
    assert ran is None
    assert {"img-src", "connect-src", "require-trusted-types-for"} <= {*seen}
    # Begun, and stopped before a byte was sent.
    assert {*tab.failed} == {*tab.asked} - {a for a in tab.asked if a.startswith(one)}


def test_an_older_request_is_dropped_for_a_newer_one(open_page):
    side = side_of(SENTENCES)
    with page_over(side) as url:
        tab = open_page(url)
        side.model.seconds = 20
        tab.get_by_label("Query", exact=True).fill("old")
        tab.locator("[aria-busy=true]").wait_for()
        while not side.model.asked:
            tab.wait_for_timeout(20)
        side.model.seconds = 0
        tab.get_by_label("Query", exact=True).fill("newer")
        settled(tab)
        tab.wait_for_timeout(100)
        assert side.model.cancelled == [["old"]]
        assert [texts for _, texts in side.model.asked] == [["old"], ["newer"]]
        assert tab.errors == []


def test_a_server_that_is_away_is_told_and_the_page_recovers(open_page):
    side = side_of(SENTENCES)
    with page_over(side) as url:
        tab = settled(open_page(f"{url}/#q=rain"))
        side.model.away = "cannot reach the server at 127.0.0.1:8500"
        tab.get_by_label("Query", exact=True).fill("rainy")
        alert = tab.get_by_role("alert").filter(has_text="cannot reach the server")
        alert.wait_for()
        assert tab.locator(".hit").count() == 0
        assert tab.get_by_role("status").first.inner_text() == ""
        side.model.away = ""
        settled(tab)
        assert not alert.is_visible()
        assert tab.locator(".hit").count() == 8


def test_the_page_recovers_when_the_demo_is_started_again(open_page):
    with page_over(side_of(SENTENCES)) as url:
        tab = settled(open_page(f"{url}/#q=rain"))
    tab.get_by_label("Query", exact=True).fill("snow")
    tab.get_by_role("alert").filter(has_text="does not answer").wait_for()
    with page_over(side_of(SENTENCES), port=int(url.rpartition(":")[2])):
        settled(tab)
        assert tab.locator(".hit").count() == 8


def test_a_mistake_is_told_where_it_was_made(one, open_page):
    tab = open_page(f"{one}/#q=rain&k=1000")
    tab.get_by_role("alert").filter(has_text="k: expected 1 to 100").wait_for()
    tab.get_by_label("Hits", exact=True).fill("2")
    settled(tab, "2 hits in")
    tab.get_by_label("Least cosine").fill("1")
    settled(tab, "0 hits in")
    assert "Nothing is found" in tab.locator(".none").inner_text()


def test_a_screen_reader_hears_names_and_news(two, open_page):
    tab = settled(open_page(f"{two}/#q=rain"))
    unnamed = """() => [...document.querySelectorAll('input, textarea')].filter(
      e => !e.labels.length).map(e => e.id)"""
    assert tab.evaluate(unnamed) == []
    assert tab.get_by_role("search").count() == 1
    assert tab.get_by_role("main").count() == 1
    assert tab.get_by_role("heading", level=1).count() == 1
    assert tab.get_by_role("region", name="the other").is_visible()
    assert tab.get_by_role("img", name="The query and its 8 hits").count() == 2
    assert tab.get_by_role("list", name="Tokens of the query").count() == 2
    assert "cosine" in tab.locator(".hit").first.inner_text()
    assert tab.locator("html[lang=en]").count() == 1


def test_nothing_moves_for_who_wants_it_still(one, open_page):
    tab = open_page(one, reduced_motion="reduce")
    durations = """() => [...document.querySelectorAll('*')].flatMap(
      e => [getComputedStyle(e).transitionDuration, getComputedStyle(e).animationName]
    ).filter(it => !['0s', 'none'].includes(it))"""
    assert tab.evaluate(durations) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", ["", "#q=rain", "#view=pair&a=rain&b=snow"])
def test_axe_finds_nothing_serious(two, open_page, scheme, address):
    axe = os.environ.get("SIMCSE_AXE")
    if axe is None:
        pytest.skip("SIMCSE_AXE names no axe.min.js, of the npm package axe-core")
    tab = open_page(f"{two}/{address}", scheme=scheme)
    if address:
        settled(tab, "hits in" if "q=" in address else "cosine")
    tab.evaluate(Path(axe).read_text("utf-8"))
    assert tab.evaluate("async () => (await axe.run()).violations") == []
