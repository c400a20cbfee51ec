"""What it is worth to carry Adam's moments from one level to the next.

    python scripts/compare_carrying.py [--steps 60] [--edges 91 128]

Two of the example pairs go through two levels on the real network. The moments count as no
evidence (a fresh start), as one step, and as all the steps that they come from. Printed is
the objective at the end of the second level, at the average and at the last iterate.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax.engine.device import solver, warm_start
from nst_jax.engine.device.problem import problem_of
from nst_jax.engine.plan.canvas import fitted
from nst_jax.engine.plan.levels import Stage
from nst_jax.files.images import load_picture, resized
from nst_jax.model import objective
from nst_jax.model.content import ContentTarget
from nst_jax.model.style import GramTarget
from nst_jax.model.vgg import VGG
from nst_jax.request.options import Options, job_options
from nst_jax.weights.find import find_weights
from nst_jax.weights.format import read_weights

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PAIRS = (("lake.jpg", "woodcut.jpg"), ("still_life.jpg", "mosaic.jpg"))
OWN = job_options(Options(preset="gram"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="steps of each level")
    parser.add_argument("--edges", type=int, nargs=2, default=(91, 128), help="long edges, pixels")
    arguments = parser.parse_args()
    weights = read_weights(find_weights("vgg16"))
    network = VGG(
        weights.architecture,
        weights.convolutions,
        weights.mean,
        deepest=OWN.style_taps[-1],
        use_winograd=jax.default_backend() == "cpu",
    )
    for content, style in PAIRS:
        pictures = [
            load_picture(EXAMPLES / folder / name).pixels
            for folder, name in (("contents", content), ("styles", style))
        ]
        for evidence in (0, 1, arguments.steps):
            average, last = _rendered(network, pictures, evidence, arguments)
            print(
                f"{content} {style}  evidence {evidence:3}  average {average:.4f}  last {last:.4f}"
            )


def _rendered(
    network: VGG, pictures: list[np.ndarray], evidence: int, arguments: argparse.Namespace
) -> tuple[float, float]:
    """The objective of one pair after both levels, at the average and at the last iterate."""
    content, style = pictures
    before: warm_start.Carried | None = None
    average = last = float("nan")
    for edge in arguments.edges:
        size = fitted(content.shape[:2], edge)
        image = resized(content, size)
        problem = _problem(network, image, resized(style, (edge, edge)), arguments.steps)
        state = (
            warm_start.started(image, size)
            if before is None
            else warm_start.continued(before, size, size, evidence_steps=evidence)
        )
        batch = jax.tree.map(lambda leaf: np.asarray(leaf)[None], (state, problem))
        states = _run(*batch, network, jnp.int32(arguments.steps))
        state = jax.tree.map(lambda leaf: np.asarray(leaf)[0], states)
        before = warm_start.carried(state, size)
        average, last = (
            float(_value(jnp.asarray(pixels), network, problem).total)
            for pixels in (before.average, before.image)
        )
    return average, last


def _problem(network: VGG, content: np.ndarray, style: np.ndarray, steps: int) -> solver.Problem:
    def sized(image: np.ndarray) -> tuple[jax.Array, VGG, jax.Array]:
        return jnp.asarray(image), network, jnp.asarray(image.shape[:2])

    moments = objective.style_moments(*sized(style), OWN.style_taps)
    features = objective.content_features(*sized(content), OWN.content_taps)
    targets = objective.Targets(
        content={tap: ContentTarget.of(one, one[..., 0].size) for tap, one in features.items()},
        style={tap: GramTarget.of(*one) for tap, one in moments.items()},
    )
    size = (content.shape[0], content.shape[1])
    stage = Stage(0, size, size, max(size), steps=steps, level_steps=steps)
    return problem_of(OWN, stage, targets)


_run = jax.jit(solver.run_chunk)


@jax.jit
def _value(image: jax.Array, network: VGG, problem: solver.Problem) -> objective.Terms:
    asked = problem.size, problem.targets, problem.weights
    return objective.objective(image, network, *asked)[1]


if __name__ == "__main__":
    main()
