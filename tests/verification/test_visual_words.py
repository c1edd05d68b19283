"""Visual words and proposals, against sets and slow loops; the words that a store keeps."""

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from threadpoolctl import threadpool_limits

from dedup.errors import ArtifactError, ConfigError, CorruptError
from dedup.search.image_access import keypoints_of, word_derivation, words_of
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore
from dedup.store.integrity import verify
from dedup.verification import keypoints
from dedup.verification.keypoints import N_KEYPOINTS, RgbImage, find_keypoints, mirrored_descriptors
from dedup.verification.visual_words import Proposals, Vocabulary, Words, propose, similarities
from tests.conftest import DAMAGES, encoded, write_shop
from tests.verification.test_keypoints import patches

Descriptors = npt.NDArray[np.uint8]


def vocabulary(k: int = 12, seed: int = 0) -> Vocabulary:
    """A vocabulary of random centroids; a word is worth as much as its mirror image."""
    rng = np.random.default_rng(seed)
    centroids = (rng.random((k, 64)) / 8).astype(np.float32)
    idf = rng.uniform(0.5, 8, (k, k))
    idf = np.maximum(idf, idf.T)
    idf[0, 1] = idf[1, 0] = 0  # common
    return Vocabulary(centroids, idf.astype(np.float32).ravel())


def descriptors(count: int, seed: int = 0) -> Descriptors:
    """Some that look like nothing."""
    return np.random.default_rng(seed).integers(0, 200, (count, 128), dtype=np.uint8)


def images(count: int, seed: int = 0, k: int = 12, most: int = 30) -> Words:
    """The words of images: random ones, copies, mirrored copies, and a few without any."""
    rng = np.random.default_rng(seed)
    words = np.full((count, N_KEYPOINTS), -1, np.int32)
    for row in range(count):
        found = np.unique(rng.integers(0, k * k, rng.integers(0, most)))
        if row > 4 and row % 5 == 0:  # half of another image's, perhaps mirrored
            found = words[row - 3][words[row - 3] >= 0][::2]
            found = np.sort(found % k * k + found // k) if row % 2 else found
        words[row, : len(found)] = found
    words[count // 2] = -1
    return words


def cosine(one: set[int], other: set[int], idf: npt.NDArray[np.float32]) -> float:
    """Of two sets of words, each worth its idf."""

    def squares(words: set[int]) -> float:
        return sum(float(idf[word]) ** 2 for word in words)

    length = math.sqrt(squares(one) * squares(other))
    return squares(one & other) / length if length else 0.0


def slow_similarities(a: Words, b: Words, known: Vocabulary) -> npt.NDArray[np.float64]:
    """Of every row with every row, by sets."""
    k = known.size
    sets = [[set(row[row >= 0].tolist()) for row in side] for side in (a, b)]
    found = np.zeros((len(a), len(b)))
    for (i, one), (j, other) in product(enumerate(sets[0]), enumerate(sets[1])):
        turned = {word % k * k + word // k for word in one}
        found[i, j] = max(cosine(one, other, known.idf), cosine(turned, other, known.idf))
    return found


def assert_same(one: Proposals, other: Proposals) -> None:
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_word_is_the_pair_of_nearest_centroids() -> None:
    known, found = vocabulary(), descriptors(40)
    roots = np.sqrt(found / found.sum(axis=1, keepdims=True))
    second = roots[:, 64:].reshape(-1, 2, 4, 8)[:, ::-1]
    second = second[..., [0, 7, 6, 5, 4, 3, 2, 1]].reshape(-1, 64)
    for row, halves in enumerate(zip(roots[:, :64], second, strict=True)):
        word = int(known.words(found[row : row + 1])[0])
        for half, code in zip(halves, divmod(word, known.size), strict=True):
            apart = np.linalg.norm(known.centroids - half, axis=1)
            assert apart[code] < apart.min() + 1e-3


def test_a_image_has_each_word_once_in_order() -> None:
    known, found = vocabulary(), descriptors(200)
    expected = sorted({int(known.words(found[row : row + 1])[0]) for row in range(200)})
    words = known.words(found)
    assert words.shape == (N_KEYPOINTS,)
    assert words.dtype == np.int32
    assert words[: len(expected)].tolist() == expected
    assert (words[len(expected) :] == -1).all()


def test_mirrored_words_are_the_codes_swapped() -> None:
    known, found = Vocabulary.load(), find_keypoints(patches(0)).descriptors
    words, turned = known.words(found), known.words(mirrored_descriptors(found))
    assert np.array_equal(np.sort(known.mirrored(words)), np.sort(turned))
    assert not np.array_equal(words, turned)
    assert np.array_equal(known.mirrored(known.mirrored(words)), words)


def test_words_do_not_depend_on_threads() -> None:
    known, found = Vocabulary.load(), descriptors(300)
    with threadpool_limits(1):
        alone = known.words(found)
    assert np.array_equal(known.words(found), alone)
    assert np.array_equal(known.words(found[::-1]), alone)


def test_no_keypoints_no_words_no_proposals() -> None:
    known = vocabulary()
    none = np.stack([known.words(descriptors(0))] * 2)
    assert (none == -1).all()
    assert len(propose(none, None, known, 0.01).left) == 0
    assert len(propose(none[:0], None, known, 0.01).left) == 0
    assert len(propose(none, none[:0], known, 0.01).left) == 0
    assert similarities(none, none, known).tolist() == [0, 0]
    common = none.copy()
    common[:, 0] = 1  # worth nothing
    assert len(propose(common, None, known, 0.01).left) == 0


@pytest.mark.parametrize("least", [0.05, 0.3, 0.9])
def test_proposals_are_those_of_a_slow_loop(least: float) -> None:
    known, a, b = vocabulary(), images(60), images(40, seed=1)
    b[:10] = a[20:30]
    for other in (b, None):
        found = propose(a, other, known, least)
        truth = slow_similarities(a, a if other is None else other, known)
        if other is None:
            truth = np.triu(truth, 1)
        left, right = np.nonzero(truth >= least)
        assert found.left.tolist() == left.tolist()
        assert found.right.tolist() == right.tolist()
        assert np.allclose(found.similarity, truth[left, right], atol=1e-5)


def test_similarities_are_those_proposed() -> None:
    known, words = vocabulary(), images(80)
    found = propose(words, None, known, 1e-6)
    assert len(found.left) > 100
    there = similarities(words[found.left], words[found.right], known)
    back = similarities(words[found.right], words[found.left], known)
    assert np.array_equal(there, found.similarity)
    assert np.array_equal(back, found.similarity)
    itself = similarities(words, words, known)
    assert np.allclose(itself[(words >= 0).sum(axis=1) > 1], 1)


def test_blocks_and_threads_do_not_matter() -> None:
    """Parts of less than a block are compared in the calling thread alone."""
    known, words = vocabulary(k=40), images(5000, k=40, most=12)  # several blocks either way
    whole = propose(words, None, known, 0.6)
    assert len(whole.left) > 1000
    starts = range(0, 5000, 250)
    parts = [propose(words[start : start + 250], words, known, 0.6) for start in starts]
    left = np.concatenate([p.left + start for start, p in zip(starts, parts, strict=True)])
    right, similarity = (np.concatenate([p[column] for p in parts]) for column in (1, 2))
    below = left < right
    assert_same(whole, Proposals(left[below], right[below], similarity[below]))


def test_too_many_pairs_end_the_search() -> None:
    known, words = vocabulary(), images(60)
    count = len(propose(words, None, known, 0.2).left)
    assert len(propose(words, None, known, 0.2, max_pairs=count).left) == count
    with pytest.raises(ConfigError, match=r"matcher\.max_pairs"):
        propose(words, None, known, 0.2, max_pairs=count - 1)


def test_an_edited_copy_is_proposed() -> None:
    known = Vocabulary.load()
    originals = [patches(seed) for seed in range(6)]
    crops = [image[30:220, 50:300] // 2 + 100 for image in originals]
    copies = [crop[:, ::-1].copy() if turn % 2 else crop for turn, crop in enumerate(crops)]
    a, b = (np.stack([known.words_in(each) for each in side]) for side in (originals, copies))
    found = propose(a, b, known, 0.1)
    assert set(zip(found.left.tolist(), found.right.tolist(), strict=True)) >= {
        (row, row) for row in range(6)
    }


def test_the_bundled_vocabulary_is_whole() -> None:
    known = Vocabulary.load()
    assert Vocabulary.load() is known
    assert known.centroids.shape == (known.size, 64)
    idf = known.idf.reshape(known.size, known.size)
    assert np.array_equal(idf, idf.T)
    assert idf.min() == 0
    assert 6 < idf.max() < 12
    grid = known.centroids * 1024
    assert np.array_equal(grid, grid.round())


def test_a_saved_vocabulary_is_read_back(tmp_path: Path) -> None:
    known = vocabulary()
    for name in ("one", "other"):
        known.save(tmp_path / name, images="none", command="test", a="1", b="2", c="3")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    back = Vocabulary.read(tmp_path / "one")
    assert np.allclose(back.centroids, known.centroids, atol=1e-3)
    assert np.allclose(back.idf, known.idf, rtol=1e-3)
    assert back.digest != known.digest  # of half precision
    back.save(tmp_path / "again")
    assert Vocabulary.read(tmp_path / "again").digest == back.digest


def flip(file: Path) -> None:
    """Change one bit in the middle."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [*DAMAGES, flip])
def test_a_damaged_vocabulary_is_refused(damage: Callable[[Path], None], tmp_path: Path) -> None:
    file = tmp_path / "vocabulary.safetensors"
    vocabulary().save(file)
    damage(file)
    with pytest.raises(CorruptError, match="vocabulary"):
        Vocabulary.read(file)
    with pytest.raises(ArtifactError, match="no vocabulary"):
        Vocabulary.read(tmp_path / "nowhere")


def test_a_file_of_other_shapes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vocabulary.safetensors"
    Vocabulary(np.ones((4, 32), np.float32), np.ones(16, np.float32)).save(file)
    with pytest.raises(CorruptError, match="shapes"):
        Vocabulary.read(file)


@pytest.fixture
def shop(tmp_path: Path) -> Catalogue:
    """Seven images, one of them flat."""
    images: list[RgbImage] = [patches(seed, (100, 80)) for seed in range(6)]
    images.append(np.full((40, 40, 3), 200, np.uint8))
    for number, image in enumerate(images):
        (tmp_path / f"{number}.png").write_bytes(encoded(Image.fromarray(image), "PNG"))
    return CsvSource(
        str(write_shop(tmp_path, [(f"P{number}", f"{number}.png") for number in range(7)]))
    ).read()


@pytest.fixture
def store(shop: Catalogue, tmp_path: Path) -> ImageStore:
    store = ImageStore(tmp_path / "store", workers=2, shard_rows=3)
    store.ingest(shop, tmp_path)
    return store


def kept(store: ImageStore) -> dict[Path, float]:
    """The files of words, with the time of each."""
    return {file: file.stat().st_mtime_ns for file in sorted(store.path.glob("*.words-*.npy"))}


def test_a_store_finds_words_once(store: ImageStore, shop: Catalogue) -> None:
    urls = shop.requests["url"].tolist()
    words = words_of(store, urls)
    expected = [Vocabulary.load().words_in(image) for image in store.details(urls)]
    assert np.array_equal(words, expected)
    assert (words[6] == -1).all()
    files = kept(store)
    ending = word_derivation(Vocabulary.load()).ending
    assert [file.name for file in files] == [f"shard-{n:05}.{ending}" for n in range(3)]
    some = [urls[6], urls[0], urls[0]]
    assert np.array_equal(words_of(ImageStore(store.path), some), words[[6, 0, 0]])
    assert words_of(store, []).shape == (0, N_KEYPOINTS)
    assert kept(store) == files
    with pytest.raises(ArtifactError, match="lacks an image"):
        words_of(store, [urls[0], "/nowhere.png"])


def test_a_store_keeps_the_keypoints_of_words(store: ImageStore, shop: Catalogue) -> None:
    urls = shop.requests["url"].tolist()
    assert keypoints_of(store, urls) == [None] * len(urls)
    words_of(store, [urls[0]])
    for number in (0, 1, 2):  # the first shard's
        (kept,) = keypoints_of(ImageStore(store.path), [urls[number]])
        assert kept is not None
        found = find_keypoints(store.details([urls[number]])[0])
        assert all(np.array_equal(a, b) for a, b in zip(kept, found, strict=True))
    assert [kept is None for kept in keypoints_of(store, [urls[6], urls[2]])] == [True, False]
    with pytest.raises(ArtifactError, match="lacks an image"):
        keypoints_of(store, ["/nowhere.png"])


@pytest.mark.parametrize("damage", [*DAMAGES, Path.unlink])
def test_lost_keypoints_are_found_again(
    damage: Callable[[Path], None], store: ImageStore, shop: Catalogue
) -> None:
    urls = shop.requests["url"].tolist()
    words_of(store, urls)
    before = keypoints_of(store, urls)
    damage(sorted(store.path.glob("*.keypoints-*.npy"))[1])
    again = ImageStore(store.path)
    assert [kept is None for kept in keypoints_of(again, urls)] == [3 <= n < 6 for n in range(7)]
    words_of(again, urls)
    for kept, other in zip(keypoints_of(again, urls), before, strict=True):
        assert kept is not None
        assert other is not None
        assert all(np.array_equal(a, b) for a, b in zip(kept, other, strict=True))


def test_other_keypoints_are_other_words(
    store: ImageStore, shop: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = shop.requests["url"].tolist()
    words, before = words_of(store, urls), kept(store)
    for name in ("CONTRAST_THRESHOLD", "EDGE_THRESHOLD", "VERSION"):
        with monkeypatch.context() as patch:
            patch.setattr(keypoints, name, 2 * getattr(keypoints, name))
            other = words_of(store, urls)
            expected = [Vocabulary.load().words_in(image) for image in store.details(urls)]
            assert np.array_equal(other, expected)
    assert len(kept(store)) == 4 * len(before)
    assert np.array_equal(words_of(store, urls), words)
    assert kept(store).items() >= before.items()


def test_words_of_an_earlier_version_are_not_read(store: ImageStore, shop: Catalogue) -> None:
    urls = shop.requests["url"].tolist()
    words, before = words_of(store, urls), kept(store)
    old = [file.with_name(f"{file.name[:11]}.words-0123abcd.npy") for file in before]
    for file, other in zip(old, before, strict=True):
        other.rename(file)
    assert verify(store.path) == []
    assert np.array_equal(words_of(ImageStore(store.path), urls), words)
    assert all(file.exists() for file in old)
    ImageStore(store.path, workers=2).ingest(shop, store.path.parent)
    assert not any(file.exists() for file in old)
    assert len(kept(store)) == len(before)


def longer(file: Path) -> None:
    """The words of one image more."""
    words = np.load(file)
    np.save(file, np.concatenate([words, words[:1]]))


def foreign(file: Path) -> None:
    """Words that no vocabulary has."""
    np.save(file, np.load(file) + 2**30)


def floats(file: Path) -> None:
    """Numbers of another type."""
    np.save(file, np.load(file).astype(np.float32))


@pytest.mark.parametrize("damage", [*DAMAGES, longer, foreign, floats, Path.unlink])
def test_lost_words_are_found_again(
    damage: Callable[[Path], None], store: ImageStore, shop: Catalogue
) -> None:
    urls = shop.requests["url"].tolist()
    words, before = words_of(store, urls), kept(store)
    damage(list(before)[1])
    assert np.array_equal(words_of(ImageStore(store.path), urls), words)
    after = kept(store)
    assert [before[file] == after[file] for file in before] == [True, False, True]


def test_a_store_without_a_shard_says_so(store: ImageStore, shop: Catalogue) -> None:
    (store.path / "shard-00001.details.npy").unlink()
    with pytest.raises(ArtifactError, match=r"details\.npy is missing"):
        words_of(store, shop.requests["url"].tolist())
