"""Images behind web addresses that change: asked again by age or on demand, never lost."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dedup.config.limits import check_limits
from dedup.download.client import Fetcher
from dedup.errors import ArtifactError, ConfigError
from dedup.store.decode import decode
from dedup.store.derived import DerivedRows
from dedup.store.image_store import ImageStore
from dedup.store.refresh import ANSWERS, FOLDER, MARKER
from tests.conftest import draw, encoded
from tests.store.test_image_store import asking_for
from tests.support.origin import LONG_AGO, NOW, Asked, Origin, Page

Serve = Callable[..., str]

DAY = 86_400.0
LOCAL = Fetcher(allow_networks=["127.0.0.0/8"], attempts=1)
FIRST, OTHER = encoded(draw(1)), encoded(draw(2))
LATER = formatdate(NOW - 3600, usegmt=True)


@dataclass
class Clock:
    """A clock that stands still until it is set, a second on for each run; counts its reads."""

    now: float = NOW
    n_read: int = 0

    def __call__(self) -> float:
        self.n_read += 1
        return self.now


@dataclass
class Shop:
    """A store and the server that its images come from."""

    origin: Origin
    folder: Path
    clock: Clock = field(default_factory=Clock)
    paths: list[str] = field(default_factory=lambda: ["/a.jpg"])

    def store(self, **settings: object) -> ImageStore:
        known = {"fetcher": LOCAL, "workers": 1, "shard_rows": 4, "clock": self.clock}
        return ImageStore(self.folder / "store", **{**known, **settings})  # type: ignore[arg-type]

    def read(self, **settings: object) -> pd.DataFrame:
        """Read the images; a row for each path."""
        self.origin.take()
        catalogue = asking_for(*([f"{self.origin.address}{path}"] for path in self.paths))
        self.clock.now += 1
        return self.store(**settings).ingest(catalogue, self.folder)

    def shows(self, image: bytes, path: str = "/a.jpg") -> bool:
        """Whether the store has an image at an address."""
        store = ImageStore(self.folder / "store")
        pixels = store.read(store.rows([f"{self.origin.address}{path}"]))[0]
        return bool(np.array_equal(pixels, decode(image).pixels))

    def n_rows(self) -> int:
        """Rows of all shards: an image that stays adds none."""
        return len(ImageStore(self.folder / "store")._shards.entries())


@pytest.fixture
def shop(tmp_path: Path, serve: Serve) -> Shop:
    origin = Origin({"/a.jpg": Page(FIRST)})
    origin.address = serve(handler=origin.handler())
    return Shop(origin, tmp_path)


def statuses(asked: list[Asked]) -> list[int]:
    return [one.status for one in asked]


SERVERS = {  # the page, and the answer where its image is unchanged
    "strong_tag": (Page(etag='"1"'), 304),
    "weak_tag": (Page(etag='W/"1"'), 304),
    "date": (Page(modified=LONG_AGO), 304),
    "both": (Page(etag='"1"', modified=LONG_AGO), 304),
    "neither": (Page(), 200),
    "ignores_conditions": (Page(etag='"1"', modified=LONG_AGO, ignores=True), 200),
    "tag_without_quotes": (Page(etag="1"), 200),
    "any_tag": (Page(etag="*"), 200),
    "date_of_this_second": (Page(modified=formatdate(NOW, usegmt=True)), 200),
}


@pytest.mark.parametrize(("page", "answer"), SERVERS.values(), ids=SERVERS)
def test_an_unchanged_image_stays_and_another_replaces_it(
    shop: Shop, page: Page, answer: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dedup")
    shop.origin.pages["/a.jpg"] = replace(page, body=FIRST)
    first = shop.read()
    pd.testing.assert_frame_equal(shop.read(refresh=True), first)
    assert statuses(shop.origin.take()) == [answer]
    assert "asked 1 web address again: 1 unchanged, 0 replaced" in caplog.text
    assert shop.n_rows() == 1
    etag = '"2"' if page.etag == '"1"' else ""
    modified = LATER if page.modified == LONG_AGO else ""
    shop.origin.pages["/a.jpg"] = replace(page, body=OTHER, etag=etag, modified=modified)
    replaced = shop.read(refresh=True)
    assert statuses(shop.origin.take()) == [200]
    assert "asked 1 web address again: 0 unchanged, 1 replaced" in caplog.text
    assert shop.shows(OTHER)
    assert (replaced["sha256_pixels"] != first["sha256_pixels"]).all()
    assert shop.n_rows() == 2


def test_without_a_setting_nothing_is_asked_and_a_line_says_so(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dedup")
    shop.read()
    assert "store.refresh" not in caplog.text
    shop.origin.pages["/a.jpg"] = Page(OTHER)
    shop.clock.now += 1000 * DAY
    shop.read()
    assert shop.origin.take() == []
    assert shop.shows(FIRST)
    assert "1 image from the web as read before: store.refresh=true asks for them" in caplog.text


def test_failures_of_before_are_told_apart(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dedup")
    shop.paths = ["/a.jpg", "/late.jpg", "/gone.jpg"]
    shop.read()
    assert "store.retry" not in caplog.text
    shop.origin.pages["/late.jpg"] = Page(OTHER)
    assert shop.read()["reason"].tolist() == ["", "http_404", "http_404"]
    assert "2 images from the web failed in an earlier run and were not asked" in caplog.text
    assert "store.retry=true" in caplog.text
    assert "1 image from the web as read before" in caplog.text
    caplog.clear()
    assert shop.read(retry=True)["reason"].tolist() == ["", "", "http_404"]
    assert "store.retry" not in caplog.text


def test_a_new_date_with_the_same_bytes_is_no_new_image(shop: Shop) -> None:
    shop.origin.pages["/a.jpg"] = Page(FIRST, modified=LONG_AGO)
    shop.read()
    shop.origin.pages["/a.jpg"] = Page(FIRST, modified=LATER)
    shop.read(refresh=True)
    assert [(one.since, one.status) for one in shop.origin.take()] == [(LONG_AGO, 200)]
    assert shop.n_rows() == 1
    shop.read(refresh=True)
    assert [(one.since, one.status) for one in shop.origin.take()] == [(LATER, 304)]


FAILURES = {
    "gone": (Page(status=404), "http_404"),
    "broken": (Page(status=500), "http_500"),
    "no_image": (Page(b"<html>Log in</html>"), "format"),
    "empty": (Page(b""), "empty"),
    "loop": (Page(status=302, location="/a.jpg"), "redirect"),
}


@pytest.mark.parametrize(("page", "reason"), FAILURES.values(), ids=FAILURES)
def test_an_error_keeps_the_image_and_says_so(
    shop: Shop, page: Page, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop.origin.pages["/a.jpg"] = Page(FIRST, etag='"1"')
    first = shop.read()
    shop.clock.now += 8 * DAY
    shop.origin.pages["/a.jpg"] = page
    pd.testing.assert_frame_equal(shop.read(max_age=7), first)
    assert f"1 image could not be read again and stays as before: 1 {reason}" in caplog.text
    shop.origin.pages["/a.jpg"] = Page(FIRST, etag='"1"')
    shop.clock.now += 1  # it was not confirmed, so its age is that of before
    shop.read(max_age=7)
    assert [(one.etag, one.status) for one in shop.origin.take()] == [('"1"', 304)]
    shop.read(max_age=7)
    assert shop.origin.take() == []
    assert shop.n_rows() == 1


def test_no_host_keeps_all_images(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.paths = ["/a.jpg", "/b.jpg"]
    shop.origin.pages["/b.jpg"] = Page(OTHER)
    shop.read()

    def hang_up(path: str) -> None:
        raise ConnectionAbortedError(path)

    shop.origin.before = hang_up
    assert shop.read(refresh=True)["status"].eq("ok").all()
    assert "2 images could not be read again and stay as before: 2 connection" in caplog.text


def test_a_site_may_withdraw_its_image(shop: Shop) -> None:
    shop.paths = ["/a.jpg", "/b.jpg"]
    shop.origin.pages["/a.jpg"] = Page(FIRST, etag='"1"')
    shop.origin.pages["/b.jpg"] = Page(OTHER)
    shop.read()
    shop.origin.pages["/a.jpg"].robots = "noai"
    images = shop.read(refresh=True, fetcher=replace(LOCAL, robots=["noai"]))
    assert images["status"].tolist() == ["skipped", "ok"]


def test_a_redirect_that_leads_elsewhere_shows_another_image(shop: Shop) -> None:
    shop.origin.pages = {
        "/a.jpg": Page(status=302, location="/one.jpg"),
        "/one.jpg": Page(FIRST, etag='"1"'),
        "/two.jpg": Page(OTHER, etag='"1"'),  # tags are of one address alone
    }
    shop.read()
    shop.read(refresh=True)
    asked = [(one.path, one.etag, one.status) for one in shop.origin.take()]
    assert asked == [("/a.jpg", "", 302), ("/one.jpg", '"1"', 304)]
    shop.origin.pages["/a.jpg"].location = "/two.jpg"
    shop.read(refresh=True)
    asked = [(one.path, one.etag, one.status) for one in shop.origin.take()]
    assert asked == [("/a.jpg", "", 302), ("/two.jpg", "", 200)]
    assert shop.shows(OTHER)


AGES = {  # seconds that passed, the setting, whether the address is asked
    "younger": (7 * DAY - 9, 7, False),
    "as_old": (7 * DAY, 7, True),
    "in_days": (8 * DAY, "7d", True),
    "hours": (11 * 3600.0, "12h", False),
    "more_hours": (13 * 3600.0, "12h", True),
    "always": (0.0, 0, True),
    "never": (9999 * DAY, None, False),
    "clock_set_back_a_bit": (-3600.0, 7, False),
    "clock_was_wrong": (-400 * DAY, 7, True),
}


@pytest.mark.parametrize(("passed", "max_age", "is_asked"), AGES.values(), ids=AGES)
def test_an_age_decides(shop: Shop, passed: float, max_age: object, is_asked: bool) -> None:
    shop.origin.pages["/a.jpg"] = Page(FIRST, etag='"1"')
    shop.read()
    shop.clock.now += passed - 1
    shop.read(max_age=max_age)
    assert statuses(shop.origin.take()) == ([304] if is_asked else [])
    if max_age:  # it is as young as new by now
        shop.read(max_age=max_age)
        assert shop.origin.take() == []


def test_failures_grow_old_too(shop: Shop) -> None:
    shop.paths = ["/a.jpg", "/late.jpg", "/gone.jpg"]
    assert shop.read()["reason"].tolist() == ["", "http_404", "http_404"]
    shop.origin.pages["/late.jpg"] = Page(OTHER)
    assert shop.read(max_age=7)["reason"].tolist() == ["", "http_404", "http_404"]
    shop.clock.now += 7 * DAY
    assert shop.read(max_age=7)["reason"].tolist() == ["", "", "http_404"]
    assert shop.n_rows() == 4  # the failure that stayed the same is not written again


def test_a_store_of_before_has_no_answers_and_is_asked_as_a_whole(shop: Shop) -> None:
    shop.origin.pages["/a.jpg"] = Page(FIRST, etag='"1"')
    first = shop.read()
    for file in (shop.folder / "store" / FOLDER).iterdir():
        file.unlink()
    (shop.folder / "store" / FOLDER).rmdir()
    pd.testing.assert_frame_equal(shop.read(), first)
    assert shop.origin.take() == []
    shop.read(max_age=7)
    assert [(one.etag, one.status) for one in shop.origin.take()] == [("", 200)]
    shop.read(refresh=True)
    assert [(one.etag, one.status) for one in shop.origin.take()] == [('"1"', 304)]


def test_an_answer_counts_only_for_the_bytes_it_names(shop: Shop) -> None:
    shop.origin.pages["/a.jpg"] = Page(FIRST, etag='"1"')
    shop.read()
    shop.origin.pages["/a.jpg"] = Page(OTHER, etag='"2"')
    shop.read(refresh=True)
    for file in (shop.folder / "store").glob("shard-00001.*"):  # an older copy put back
        file.unlink()
    assert shop.shows(FIRST)
    shop.read(refresh=True)
    assert [(one.etag, one.status) for one in shop.origin.take()] == [("", 200)]
    assert shop.shows(OTHER)


def test_damaged_or_forged_answers_are_not_used(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.origin.pages["/a.jpg"] = Page(FIRST, etag='"1"')
    digest = shop.read()["sha256_bytes"].iloc[0]
    answers = shop.folder / "store" / FOLDER
    (block,) = answers.glob("*.parquet")
    block.write_bytes(block.read_bytes()[:-1])
    shop.read(refresh=True)
    assert [(one.etag, one.status) for one in shop.origin.take()] == [("", 200)]
    assert "It is removed" in caplog.text
    for etag in ("*", '"1"\r\nHost: elsewhere'):
        row = ("a" * 64, digest, etag, "", "", NOW, NOW)
        with DerivedRows(answers, ANSWERS, lambda rows: True) as forged:
            forged.add([row])
        shop.read(refresh=True)
        assert shop.origin.take()[0].etag == '"1"'  # from the rows that are possible
        assert "impossible results" in caplog.text
        caplog.clear()


def test_a_link_in_place_of_the_answers_is_refused(shop: Shop, tmp_path: Path) -> None:
    shop.read()
    answers, elsewhere = shop.folder / "store" / FOLDER, tmp_path / "elsewhere"
    answers.rename(elsewhere)
    answers.symlink_to(elsewhere)
    with pytest.raises(ArtifactError, match="is a symbolic link"):
        shop.read(refresh=True)
    assert not (elsewhere / MARKER).exists()


def test_an_interrupted_refresh_asks_each_address_once(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dedup")
    shop.paths = [f"/{number:02}.jpg" for number in range(12)]
    for number, path in enumerate(shop.paths):
        shop.origin.pages[path] = Page(encoded(draw(number)), etag=f'"{number}"')
    shop.read()
    changed = encoded(draw(99))
    for path in ("/03.jpg", "/10.jpg"):
        shop.origin.pages[path] = Page(changed, etag='"new"')
    n_before, shop.clock.n_read = shop.clock.n_read, 0
    assert n_before
    is_first = True

    def interrupt(path: str) -> None:
        nonlocal is_first
        if path < "/08.jpg":
            return
        end = time.monotonic() + 20
        while shop.clock.n_read < 4 and time.monotonic() < end:  # begun, chosen, two shards' worth
            time.sleep(0.01)
        time.sleep(0.1)
        if is_first:
            is_first = False
            os.kill(os.getpid(), signal.SIGINT)
        raise ConnectionAbortedError(path)

    shop.origin.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        shop.read(refresh=True, fetcher=replace(LOCAL, connections=1))
    answered = Counter(one.path for one in shop.origin.asked)
    assert (shop.folder / "store" / FOLDER / MARKER).exists()
    shop.origin.before = lambda path: None
    shop.clock.now += 3600
    images = shop.read(refresh=True)
    answered += Counter(one.path for one in shop.origin.take())
    assert answered == Counter(shop.paths)
    assert "going on with the refresh that began at" in caplog.text
    assert not (shop.folder / "store" / FOLDER / MARKER).exists()
    whole = Shop(shop.origin, shop.folder / "whole", paths=shop.paths)
    whole.folder.mkdir()
    pd.testing.assert_frame_equal(images, whole.read())
    assert shop.store().digest() == whole.store().digest()


def test_a_refresh_that_was_stopped_days_ago_begins_anew(shop: Shop) -> None:
    shop.read()
    marker = shop.folder / "store" / FOLDER / MARKER
    marker.write_text(f'{{"started": {NOW - 2 * DAY}}}')
    shop.read(refresh=True)
    assert statuses(shop.origin.take()) == [200]
    for text in ("{", '{"started": "now"}', f'{{"started": {NOW + 9 * DAY}}}'):
        marker.write_text(text)
        shop.read(refresh=True)
        assert statuses(shop.origin.take()) == [200]
        assert not marker.exists()


def test_changed_rows_are_written_in_whole_shards(shop: Shop) -> None:
    shop.paths = [f"/{number:02}.jpg" for number in range(20)]
    for number, path in enumerate(shop.paths):
        shop.origin.pages[path] = Page(encoded(draw(number)))
    shop.read()
    for number in range(0, 20, 4):  # one of each four, in which rows are saved
        shop.origin.pages[shop.paths[number]] = Page(encoded(draw(100 + number)))
    shop.read(refresh=True)
    tables = ImageStore(shop.folder / "store")._shards.entries()
    assert tables["shard"].value_counts().sort_index().tolist() == [4, 4, 4, 4, 4, 4, 1]
    urls = tables.loc[tables["shard"] >= 5, "url"].tolist()
    assert urls == [f"{shop.origin.address}{path}" for path in shop.paths[::4]]


def test_an_index_goes_on_to_show_the_images_it_was_made_of(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    first = shop.read()
    shop.origin.pages["/a.jpg"] = Page(OTHER)
    second = shop.read(refresh=True)
    url = first["url"].tolist()
    for images, shown, n_warnings in ((first, FIRST, 1), (second, OTHER, 0)):
        caplog.clear()
        store = ImageStore(shop.folder / "store")
        store.hold(images)
        assert np.array_equal(store.read(store.rows(url))[0], decode(shown).pixels)
        assert len(caplog.records) == n_warnings
    assert shop.shows(OTHER)


def test_what_is_unread_is_told_without_reading(shop: Shop, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("0.jpg", "1.jpg", "missing.jpg")]
    for number, file in enumerate(files[:2]):
        file.write_bytes(encoded(draw(number)))
    urls = [*map(str, files), f"{shop.origin.address}/a.jpg"]
    catalogue = asking_for(*([url] for url in urls))
    shop.store().ingest(catalogue, tmp_path)
    shop.origin.take()
    shop.clock.now += 1
    assert shop.store().unread(urls) == []
    info = files[0].stat()
    files[0].write_bytes(encoded(draw(7)))
    os.utime(files[0], ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    files[2].write_bytes(encoded(draw(8)))
    assert shop.store().unread(urls) == [urls[0], urls[2]]
    assert shop.store(refresh=True).unread(urls) == [urls[0], *urls[2:]]
    assert shop.store(max_age=1).unread([*urls, "https://new.example/"])[-1] != urls[3]
    assert shop.origin.take() == []
    assert not (shop.folder / "store" / FOLDER / MARKER).exists()


@pytest.mark.parametrize("value", ["7", "1w", -1, "soon", True], ids=str)
def test_a_wrong_age_is_told_before_anything_is_read(value: object) -> None:
    with pytest.raises(ConfigError, match=r"store\.max_age=.*7d or 12h, or null"):
        check_limits({"store": {"max_age": value}})
    check_limits({"store": {"max_age": "7d", "refresh": True}})
