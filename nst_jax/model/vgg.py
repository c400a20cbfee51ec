"""VGG-16 and VGG-19 as one Flax module from a table, for one image on its canvas.

The image is float32 RGB in [0, 1]; its normalisation happens in here and nowhere else.
A call runs to the deepest requested tap and returns named features, no hooks and no
mutable state. Batch with `jax.vmap(network, (0, 0, None))`.
"""

from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import nnx
from jaxtyping import Array, Float, Int

from nst_jax.model import layers, winograd
from nst_jax.request.taps import PIXELS, Architecture, deepest_tap

Weights = Mapping[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]
"""Kernel (3, 3, c, d) and bias (d,) of each convolution by its name."""

_KERNEL_AXES = 4  # rows, columns, channels in and out; no other array of a network has as many


class Convolution(nnx.Module):
    """One 3x3 convolution's constants, ready for both directions.

    Args:
        kernel: The published kernel, (3, 3, c, d).
        bias: One number an output channel.
        dtype: What the layer computes in.
        use_winograd: Whether to prepare the kernels for Winograd's algorithm where it pays.
    """

    def __init__(
        self,
        kernel: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        *,
        dtype: jnp.dtype,
        use_winograd: bool,
    ) -> None:
        forward, backward = kernel, layers.flip_kernel(kernel)
        self.is_transformed = use_winograd and winograd.is_profitable(*kernel.shape[2:])
        if self.is_transformed:
            self.plain = nnx.Param(jnp.asarray(kernel, dtype))
            forward, backward = map(winograd.transform_kernel, (forward, backward))
        self.kernel = nnx.Param(jnp.asarray(forward, dtype))
        self.flipped = nnx.Variable(jnp.asarray(backward, dtype))
        self.bias = nnx.Param(jnp.asarray(bias, dtype))

    def constants(self, use_winograd: bool) -> tuple[Array, Array, Array]:
        """Kernel, flipped kernel and bias; the first plain where Winograd's is not to be used."""
        kernel = self.plain if self.is_transformed and not use_winograd else self.kernel
        return kernel[...], self.flipped[...], self.bias[...]


class VGG(nnx.Module):
    """A VGG cut after a tap.

    Args:
        architecture: The table of blocks.
        weights: Every convolution up to `deepest`; later ones are ignored.
        mean: RGB mean in [0, 1], subtracted from the image first.
        deepest: The last tap this network must reach.
        pooling: Maximum (as trained), average (as Gatys et al. prefer) or l2.
        pooling_scale: A factor on each pooling's output.
        padding: What the first convolution sees beyond the border: zeros, which are the mean
            colour (as trained), or the border again, which leaves no frame on a picture that
            is optimised.
        dtype: What the features are computed and returned in.
        use_winograd: Prepare for a CPU; see `nst_jax.model.winograd`. float32 only.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Weights,
        mean: Sequence[float],
        *,
        deepest: str,
        pooling: layers.Pooling = "max",
        pooling_scale: float = 1.0,
        padding: layers.Padding = "zero",
        dtype: jnp.dtype | type = jnp.float32,
        use_winograd: bool = False,
    ) -> None:
        self.architecture = architecture
        self.pooling: layers.Pooling = pooling
        self.pooling_scale = pooling_scale
        self.padding: layers.Padding = padding
        self.dtype = jnp.dtype(dtype)
        self.mean = nnx.Variable(jnp.asarray(np.asarray(mean, np.float32), jnp.float32))
        self.ones = nnx.Variable(jnp.asarray(np.ones(3, self.dtype), self.dtype))
        self.convolutions = nnx.Dict(
            {
                name: Convolution(*weights[name], dtype=self.dtype, use_winograd=use_winograd)
                for name in _convolutions_up_to(deepest, architecture)
            }
        )

    def __call__(
        self,
        image: Float[Array, "h w 3"],
        size: Int[Array, "2"],
        taps: Sequence[str],
        use_winograd: bool = True,
    ) -> dict[str, Float[Array, "..."]]:
        """Features of one image at each of `taps`, exactly zero outside of its region.

        Args:
            image: float32 RGB in [0, 1] in the top left corner of its canvas.
            size: Height and width of the image on the canvas.
            taps: Canonical names; static.
            use_winograd: Whether by Winograd's algorithm where the network is prepared for it. What
                is made once, without a gradient, needs none: it takes longer to compile than it
                saves. Static.

        Returns:
            For a tap behind n poolings an array (h // 2**n, w // 2**n, channels); the
            image's own region there is `size // 2**n`.
        """
        deepest = deepest_tap(taps, self.architecture)
        features = {}
        for name, value in self._layers(image, size, taps, use_winograd):
            features[name] = value
            if name == deepest:
                break
        return {tap: features[tap] for tap in taps}

    def _layers(
        self, image: Array, size: Array, before_activation: Sequence[str], use_winograd: bool
    ) -> Iterator[tuple[str, Array]]:
        """Every tap's value in the order of computation; `conv…` only where it is asked for."""
        mask = layers.region_mask(size, (image.shape[0], image.shape[1]))
        yield PIXELS, jnp.where(mask, image, 0)
        value = jnp.where(mask, image - self.mean[...], 0).astype(self.dtype)
        rim = 1 if self.padding == "replicate" else 0
        if rim:
            value = layers.replicate_border(value, size)
        # By an argument, of which XLA knows nothing: a quotient is not computed twice. Without it
        # the gradient, here a sum of nine taps, is summed again wherever it is used: nine times by
        # a border that is repeated, and all that twice by Adam.
        value = value / self.ones[...]
        for block, depth in enumerate(self.architecture.depths, start=1):
            for index in range(1, depth + 1):
                name = f"{block}_{index}"
                constants = self.convolutions[f"conv{name}"].constants(use_winograd)
                if f"conv{name}" in before_activation:
                    value = layers.convolve(value, *constants, mask, rim)
                    yield f"conv{name}", value
                    value = jax.nn.relu(value)
                else:
                    value = layers.convolve_relu(value, *constants, mask, rim)
                rim = 0
                yield f"relu{name}", value
            size = size // 2
            mask = layers.region_mask(size, (value.shape[0] // 2, value.shape[1] // 2))
            value = jnp.where(mask, layers.pool(value, self.pooling, self.pooling_scale), 0)
            yield f"pool{block}", value


def transpose_network(network: VGG) -> VGG:
    """The network that makes of a transposed picture what this one makes of the picture.

    Rows and columns of its kernels are swapped, plain ones and those in Winograd's domain alike.
    Its features are those of the picture, transposed. Host arrays.
    """

    def transpose(array: Array) -> npt.NDArray[np.generic]:
        host = np.asarray(array)
        return np.ascontiguousarray(host.swapaxes(0, 1)) if host.ndim == _KERNEL_AXES else host

    definition, state = nnx.split(network)
    return nnx.merge(definition, jax.tree.map(transpose, state))


def _convolutions_up_to(deepest: str, architecture: Architecture) -> list[str]:
    reached = architecture.taps[: architecture.taps.index(deepest) + 1]
    return [tap for tap in reached if tap.startswith("conv")]
