"""The report in a browser: it opens without a complaint, filters, shows a job, moves its slider.

Skipped where there is no Chromium.
"""

import dataclasses
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import Browser, chromium
from report_folders import result, save, small_batch, write
from test_report import HOSTILE

from nst_jax.engine.results import LossPoint
from nst_jax.files.report.page import write_report
from nst_jax.request.job import Job
from nst_jax.request.options import JobOptions

RIGHT, LEFT, ESCAPE, ENTER = "\ue014", "\ue012", "\ue00c", "\ue007"
CARDS = "document.querySelectorAll('.card').length"
LOADED = "[...document.images].filter(one => one.complete && one.naturalWidth).length"
OPEN = "document.querySelector('#job').open"
CLOSED = f"!{OPEN} && location.hash === ''"
"""The address too, which follows in an event of its own: what is opened before it would close."""


@pytest.fixture(scope="module")
def chrome(tmp_path_factory) -> Iterator[Browser]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the driver's own sockets
        with chromium(tmp_path_factory.mktemp("profile")) as browser:
            yield browser


@pytest.fixture
def browser(chrome) -> Iterator[Browser]:
    """The browser at a desk's size, in light colours; at the end it must not have complained."""
    chrome.resize(1280, 900)
    chrome.prefer("light")
    chrome.complaints()
    yield chrome
    assert chrome.complaints() == []


@pytest.fixture
def folder(tmp_path) -> Path:
    return small_batch(tmp_path)


@pytest.fixture
def page(folder, browser) -> Browser:
    browser.open(write_report(folder))
    return browser


def names(browser: Browser) -> list[str]:
    return browser.texts(".card b")


def open_job(browser: Browser, card: str = ".card") -> None:
    browser.one(card).click()
    browser.wait(OPEN)


def test_the_page_shows_every_job_and_the_run_and_asks_no_network(page):
    assert names(page) == [
        *("deep/cat_waves.png", "deep/cat_stars.jpg", "deep/dog_waves.tif", "lost.png")
    ]
    page.wait(f"{LOADED} === document.images.length")
    assert page.one("#title").text == "renders"
    assert "3 pictures, 1 failed" in page.one("#summary").text
    assert "4.5" in page.one("#run").text
    assert page.texts(".phases li") == [
        *("steps 8 s", "targets 1 s", "compilation 2.5 s", "everything else 1 s")
    ]
    assert "does not exist" in page.one(".card.failed").text
    asked = page.js(
        "[...document.querySelectorAll('[src], link[href]')].map(one => one.src || one.href)"
    )
    assert len(asked) > 5
    asked.remove("data:,")
    assert all(url.startswith("file://") for url in asked)


@pytest.mark.parametrize(
    ("field", "value", "left"),
    [
        ("#search", "DOG", ["deep/dog_waves.tif"]),
        ("#search", "does not exist", ["lost.png"]),
        ("#search", "nothing like it", []),
        ("#status", "failed", ["lost.png"]),
        ("#least", "0.5", ["deep/cat_waves.png", "deep/cat_stars.jpg"]),
        ("#most", "0.4", ["deep/dog_waves.tif"]),
    ],
)
def test_filters_leave_what_matches(page, field, value, left):
    page.js("document.querySelector('#range').open = true")
    page.choose(field, value)
    assert names(page) == left
    assert page.js("document.querySelector('#count').value") == f"{len(left)} of 4 jobs"
    assert page.one("#empty").is_displayed() == (not left)
    page.one("#clear").click()
    assert len(names(page)) == 4


def test_content_and_style_can_be_chosen_and_stand_in_the_address(folder, page):
    assert page.texts("#style option") == ["every style", "stars.png", "waves.png"]
    page.choose("#style", page.js("document.querySelectorAll('#style option')[1].value"))
    assert names(page) == ["deep/cat_stars.jpg", "lost.png"]
    page.choose("#content", page.js("document.querySelectorAll('#content option')[1].value"))
    assert names(page) == ["deep/cat_stars.jpg"]
    page.open(folder / "report/index.html", page.js("location.hash"))
    assert names(page) == ["deep/cat_stars.jpg"]


@pytest.mark.parametrize(
    ("key", "first"),
    [
        ("total", "deep/dog_waves.tif"),
        ("seconds", "lost.png"),
        ("name", "deep/cat_stars.jpg"),
        ("content", "deep/cat_waves.png"),
        ("style", "deep/cat_stars.jpg"),
        ("status", "deep/cat_waves.png"),
    ],
)
def test_jobs_are_sorted_both_ways_and_what_has_no_value_comes_last(page, key, first):
    page.choose("#sort", key)
    ascending = names(page)
    assert ascending[0] == first
    page.one("#direction").click()
    descending = names(page)
    assert descending[0] != first
    if key == "total":
        assert ascending[-1] == descending[-1] == "lost.png"


def test_a_job_shows_content_style_and_result_and_a_slider_wipes(page):
    open_job(page)
    dialog = page.one("#job")
    assert dialog.is_displayed()
    assert page.texts("#job figcaption b") == ["content", "style", "result"]
    page.wait("[...document.querySelectorAll('#job img')].every(one => one.naturalWidth)")
    cut = "getComputedStyle(document.querySelector('.wipe')).getPropertyValue('--cut')"
    assert page.js(cut) == "50%"
    for _ in range(20):
        page.press(RIGHT, ".wipe input")
    assert page.js(cut) == "60%"
    middle = page.js("getComputedStyle(document.querySelector('.wipe .over')).clipPath")
    assert middle == "inset(0px 0px 0px 60%)"
    assert "style_weight 10" in dialog.text
    assert page.js("document.querySelectorAll('#job .chart path').length") == 4
    assert "after step 40" in page.one("#job .legend").text


def test_a_failed_job_says_what_went_wrong_and_what_helps_and_back_closes_it(page):
    open_job(page, ".card.failed")
    assert "Failed: picture" in page.one(".fault").text
    assert "Check the path" in page.one(".fault").text
    assert page.texts("#job figcaption b") == ["content", "style", "style"]
    page.driver.back()
    page.wait(CLOSED)


def test_everything_goes_by_keyboard(page):
    page.press("/", "body")
    assert page.js("document.activeElement.id") == "search"
    page.press("a\ue003")
    page.press(RIGHT, "body")
    focused = "document.activeElement.dataset.job"
    assert page.js(focused) == "deep/cat_waves.png"
    page.press(RIGHT)
    assert page.js(focused) == "deep/cat_stars.jpg"
    page.press(LEFT)
    page.press(ENTER)
    page.wait(OPEN)
    assert page.one("#job-title").text == "deep/cat_waves.png"
    page.press(RIGHT, "#job .close")
    assert page.one("#job-title").text == "deep/cat_stars.jpg"
    page.press(ESCAPE)
    page.wait(CLOSED)
    assert page.js(focused) == "deep/cat_stars.jpg"


@pytest.mark.parametrize("width", [360, 768, 2400])
def test_nothing_sticks_out_at_any_width(page, width):
    page.resize(width, 740)
    overflow = "document.scrollingElement.scrollWidth - innerWidth"
    assert page.js(overflow) <= 0
    open_job(page)
    assert page.js("(d => d.scrollWidth - d.clientWidth)(document.querySelector('#job'))") <= 0
    wipe = page.js(
        "(b => [b.left, b.right])(document.querySelector('.wipe').getBoundingClientRect())"
    )
    assert wipe[0] >= 0
    assert wipe[1] <= width


CONTRAST = """
(() => {
  const light = text => { const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map(value => {
      const part = value / 255;
      return part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4; });
    return .2126 * r + .7152 * g + .0722 * b; };
  const paper = light(getComputedStyle(document.documentElement).backgroundColor);
  return ['body', '.lead', '.caption small', '#count', '.why', '.fold summary'].map(one => {
    const ink = light(getComputedStyle(document.querySelector(one)).color);
    return (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05); });
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(page, scheme):
    page.prefer(scheme)
    background = page.js("getComputedStyle(document.documentElement).backgroundColor")
    assert (background == "rgb(21, 20, 18)") == (scheme == "dark")
    assert min(page.js(CONTRAST)) >= 4.5


def test_an_open_page_follows_a_running_batch(tmp_path, folder, browser):
    page = write_report(folder, live=True)
    browser.open(page)
    assert browser.one("#live").is_displayed()
    job = Job(tmp_path / "inputs/cat.png", tmp_path / "inputs/dog.png", output="new.png")
    write(folder, [result(folder, job, 7)])
    write_report(folder)
    browser.wait(f"{CARDS} === 5")
    assert names(browser)[-1] == "new.png"
    assert not browser.one("#live").is_displayed()


def test_hostile_names_are_text(tmp_path, browser):
    folder = tmp_path / "<b>out"
    results = []
    for number, name in enumerate(HOSTILE):
        job = Job(save(tmp_path / "in" / name), save(tmp_path / "st" / name), output=name)
        results.append(result(folder, job, number))
    write(folder, results)
    browser.open(write_report(folder))
    shown = [name.replace("\udcff", "\ufffd") for name in HOSTILE]
    assert [name.replace("\udcff", "\ufffd") for name in names(browser)] == shown
    assert browser.js("document.querySelectorAll('#grid script, #grid b img').length") == 0
    browser.wait(f"{LOADED} === document.images.length")
    for number in range(len(HOSTILE)):
        browser.js("document.querySelectorAll('.card')[arguments[0]].click()", number)
        browser.wait(OPEN)
        browser.wait("[...document.querySelectorAll('#job img')].every(one => one.naturalWidth)")
        browser.press(ESCAPE, ".close")
        browser.wait(CLOSED)


@pytest.mark.slow
def test_two_thousand_jobs_are_quick(tmp_path, browser):
    inputs = [save(tmp_path / f"{name}.png", seed) for seed, name in enumerate("abcd")]
    folder = tmp_path / "out"
    first = result(folder, Job(inputs[0], inputs[1], output="0.png"))
    results = [first]
    for number in range(1, 2000):
        (folder / f"{number}.png").hardlink_to(folder / "0.png")
        job = Job(inputs[number % 2], inputs[2 + number % 2], output=f"{number}.png")
        losses = dict.fromkeys(first.losses, 1 / (1 + number))
        results.append(type(first)(number, job, losses=losses, curve=first.curve, output="x"))
    lines = (json.dumps(one.record()) for one in results)  # `Ledger` waits for the disk each time
    (folder / "ledger.jsonl").write_text("\n".join(lines))
    browser.open(write_report(folder))
    ready = browser.js("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert ready < 5000
    assert browser.js("document.querySelector('#count').value") == "2,000 jobs"
    assert browser.js(CARDS) < 300
    took = browser.js(
        "(() => { const began = performance.now(); ask({search: '77', sort: 'total'});"
        " document.body.offsetHeight; return performance.now() - began; })()"
    )
    assert took < 1000
    assert len(names(browser)) == sum("77" in str(number) for number in range(2000))


def test_options_that_differ_stand_on_cards_and_can_be_chosen(page):
    """The failed job has the default weight."""
    assert "style_weight 11" in page.texts(".card small")
    chosen = "[id='o.style_weight']"
    assert page.texts(f"{chosen} option") == [
        *("every style_weight", "style_weight 1", "style_weight 10", "style_weight 11"),
        "style_weight 12",
    ]
    page.choose(chosen, "11")
    assert names(page) == ["deep/cat_stars.jpg"]
    page.one("#clear").click()
    assert len(names(page)) == 4


@pytest.mark.parametrize(
    ("rows", "columns", "heads"),
    [
        ("content", "style", ["stars.png", "waves.png", "waves.png + stars.png"]),
        ("pair", "style_weight", ["1", "10", "11", "12"]),
    ],
)
def test_jobs_stand_in_a_grid_by_what_is_chosen(folder, page, rows, columns, heads):
    page.choose("#rows", rows)
    page.choose("#columns", columns)
    assert page.texts("#matrix thead th") == heads
    assert len(page.texts("#matrix tbody tr")) >= 2
    assert not page.one("#grid").is_displayed()
    assert len(page.texts("#matrix .card")) == 4
    page.open(folder / "report/index.html", page.js("location.hash"))
    assert page.texts("#matrix thead th") == heads
    page.choose("#rows", "")
    assert page.one("#grid").is_displayed()
    assert len(names(page)) == 4


def test_a_job_that_is_no_longer_asked_for_is_marked(folder, browser):
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"unasked": ["deep/cat_stars.jpg"]}))
    browser.open(write_report(folder))
    assert browser.texts(".card.unasked b") == ["deep/cat_stars.jpg"]
    assert "no longer asked for" in browser.one(".card.unasked").text


def test_previews_stand_in_a_job_s_own_view(folder, browser):
    for step in (20, 1000000):
        save(folder / f"previews/deep/cat_waves.png.{step:06d}.png")
    browser.open(write_report(folder))
    open_job(browser)
    assert browser.texts(".previews figcaption") == ["after step 20", "after step 1000000"]
    browser.wait(f"{LOADED} === document.images.length")


def test_parts_of_the_loss_have_their_weights_where_they_add_up(folder, browser):
    """The total is 2 times the content, 3 times the style and the smoothness; a level ends."""
    weights = JobOptions(content_weight=2.0, style_weight=3.0, tv_weight=1.0)
    parts = [(1, 8.0, 4.0, 0.5), (5, 4.0, 2.0, 0.3), (40, 1e-9, 1.0, 0.2)]
    curve = tuple(LossPoint(step, 2 * c + 3 * s + t, c, s, t) for step, c, s, t in parts)
    inputs = folder.parent / "inputs"
    job = Job(inputs / "cat.png", inputs / "waves.png", output="sum.png", options=weights)
    made = dataclasses.replace(result(folder, job, 9), curve=curve, level_ends=(10, 40))
    write(folder, [made])
    browser.open(write_report(folder), "#job=sum.png")
    browser.wait(OPEN)
    assert "Loss, its parts weighted" in browser.texts(".facts h3")
    assert browser.texts(".legend li") == [
        *("total3.2", "content2.00e-9", "style3", "tv0.2", "after step 40")
    ]
    assert len(browser.js("[...document.querySelectorAll('.chart .level')]")) == 1
    lowest = browser.js("document.querySelector('.chart').getBBox().height")
    assert lowest < 260, "what is nearly nothing stays at the floor"


def test_parts_that_do_not_add_up_stay_as_they_are(page):
    open_job(page)
    assert "Loss, its parts unweighted" in page.texts(".facts h3")
