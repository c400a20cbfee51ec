"""The same mathematics in PyTorch: loss and gradient of a batch, for a fair race.

Given to PyTorch's advantage: channels_last memory, the network cut after the deepest tap,
no gradient for its weights, cuDNN free to try its algorithms, TF32 for float32 on a GPU, no
optimiser, and in bfloat16 even the Gram products stay bfloat16. torch is imported when a
peer is made and never before, so the rest of the benchmark does without it.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nst_jax.bench.settings import PeerForm
from nst_jax.files.images import Pixels
from nst_jax.request.errors import OptionError
from nst_jax.request.options import JobOptions, normalized_weights
from nst_jax.request.taps import deepest_tap
from nst_jax.weights.network import NetworkWeights

Tensor = Any  # torch's; its types are not there where torch is not

_TINY = 1e-8  # as in nst_jax.model.losses


class TorchPeer:
    """Content and Gram losses, total variation and their gradient, in one of PyTorch's forms.

    Args:
        weights: The network's.
        own: The job options of all images, with canonical `relu…` taps.
        content: (h, w, 3) in [0, 1]: every image's content and start.
        style: Likewise, of any size.
        batch_size: Images.
        platform: JAX's name of the platform to match: `cpu` or `gpu`.
        dtype: What the network computes in, as `devices.Precision` names it.
        form: `eager`, or `compile` for `torch.compile`.

    Raises:
        OptionError: This PyTorch can't use the platform.
    """

    def __init__(
        self,
        weights: NetworkWeights,
        own: JobOptions,
        content: Pixels,
        style: Pixels,
        *,
        batch_size: int,
        platform: str,
        dtype: str,
        form: PeerForm,
    ) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._device = _device(self._torch, platform)
        self.form, self.dtype = form, dtype
        is_narrow = dtype == "bfloat16"
        self._network_dtype = self._torch.bfloat16 if is_narrow else self._torch.float32
        self._torch.backends.cuda.matmul.allow_tf32 = dtype == "tensorfloat32"
        self._torch.backends.cudnn.allow_tf32 = dtype == "tensorfloat32"
        self._own = own
        self._depths = weights.architecture.depths
        self._deepest = deepest_tap((*own.content_taps, *own.style_taps), weights.architecture)
        self._constants = self._load_constants(weights)
        with self._torch.no_grad():
            features = self._features(self._image(content[None]))
            self._content = {tap: features[tap] for tap in own.content_taps}
            features = self._features(self._image(style[None]))
            self._style = {tap: self._gram(features[tap]) for tap in own.style_taps}
        images = np.repeat(content[None], batch_size, axis=0)
        self._images = self._image(images).requires_grad_()
        self._loss = self._compile_losses() if form == "compile" else self._losses

    @property
    def version(self) -> str:
        return self._torch.__version__

    @property
    def batch_size(self) -> int:
        """Images in one step."""
        return self._images.shape[0]

    @property
    def threads(self) -> int:
        """Of the host, that PyTorch's operations may use."""
        return self._torch.get_num_threads()

    def run(self, steps: int) -> None:
        """Computes losses and gradients so many times, and waits for the end."""
        for _ in range(steps):
            self._loss_and_gradient(self._images)
        if self._device == "cuda":
            self._torch.cuda.synchronize()

    def release_memory(self) -> None:
        """Gives back programs, and what PyTorch keeps of a GPU's memory for its next need."""
        if self.form == "compile":
            self._torch.compiler.reset()
        if self._device == "cuda":
            self._torch.cuda.empty_cache()

    def loss_and_gradient(self, images: Pixels) -> tuple[Pixels, Pixels]:
        """The total of each image (b,) and its gradient (b, h, w, 3), on the host.

        Args:
            images: (b, h, w, 3) in [0, 1], of the content's size.
        """
        losses, gradient = self._loss_and_gradient(self._image(images).requires_grad_())
        channels_last = gradient.permute(0, 2, 3, 1)
        return losses.detach().cpu().numpy(), channels_last.cpu().numpy()

    def _compile_losses(self) -> Callable[[Tensor], Tensor]:
        """The losses as a program for this shape alone, compiled as a whole or not at all.

        Left alone, PyTorch makes one program for all later batch sizes, and goes on eager after
        eight programs.
        """
        return self._torch.compile(self._losses, dynamic=False, fullgraph=True)

    def _loss_and_gradient(self, images: Tensor) -> tuple[Tensor, Tensor]:
        losses = self._loss(images)
        (gradient,) = self._torch.autograd.grad(losses.sum(), images)
        return losses, gradient

    def _load_constants(self, weights: NetworkWeights) -> Mapping[str, Any]:
        mean = self._torch.tensor(weights.mean, device=self._device).view(1, 3, 1, 1)
        constants: dict[str, Any] = {"mean": mean}
        for name, (kernel, bias) in weights.convolutions.items():
            outermost = self._torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
            constants[name] = (
                self._to_device(outermost),
                self._to_device(self._torch.tensor(bias)),
            )
        return constants

    def _to_device(self, tensor: Tensor) -> Tensor:
        """On the device, in the network's data type; what has four axes is channels_last."""
        tensor = tensor.to(device=self._device, dtype=self._network_dtype)
        if tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=self._torch.channels_last)
        return tensor

    def _image(self, images: Pixels) -> Tensor:
        """(b, h, w, 3) to (b, 3, h, w) float32 on the device, channels_last."""
        layout = self._torch.channels_last
        tensor = self._torch.tensor(images).permute(0, 3, 1, 2)
        return tensor.to(self._device).contiguous(memory_format=layout)

    def _losses(self, images: Tensor) -> Tensor:
        """The objective of each image; see `nst_jax.model.objective`."""
        own, features = self._own, self._features(images)
        content_shares = normalized_weights(own.content_tap_weights, len(own.content_taps))
        style_shares = normalized_weights(
            own.style_tap_weights, len(own.style_taps), ratio=own.style_tap_ratio
        )
        total = own.tv_weight * _variation(images)
        for tap, share in zip(own.content_taps, content_shares, strict=True):
            distance = _relative_distance(features[tap], self._content[tap])
            total = total + own.content_weight * share * distance
        for tap, share in zip(own.style_taps, style_shares, strict=True):
            distance = _relative_distance(self._gram(features[tap]), self._style[tap])
            total = total + own.style_weight * share * distance
        return total

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        """Every activation up to the deepest tap."""
        functional = self._torch.nn.functional
        features: dict[str, Tensor] = {}
        value = (images - self._constants["mean"]).to(self._network_dtype)
        for block, depth in enumerate(self._depths, start=1):
            if block > 1:
                value = functional.max_pool2d(value, 2)
            for index in range(1, depth + 1):
                kernel, bias = self._constants[f"conv{block}_{index}"]
                margin = 1
                if block == index == 1:  # the border of the picture is repeated
                    value, margin = self._repeat_border(value), 0
                value = functional.relu(functional.conv2d(value, kernel, bias, padding=margin))
                features[f"relu{block}_{index}"] = value
                if f"relu{block}_{index}" == self._deepest:
                    return features
        raise AssertionError(f"no tap {self._deepest}")

    def _repeat_border(self, value: Tensor) -> Tensor:
        """The picture with one pixel more on each side.

        `pad` would do, but the compiled gradient of it fails in torch 2.13 for channels_last: it
        expects other strides than it finds.
        """
        value = self._torch.cat((value[:, :, :1], value, value[:, :, -1:]), dim=2)
        return self._torch.cat((value[..., :1], value, value[..., -1:]), dim=3)

    def _gram(self, features: Tensor) -> Tensor:
        count, channels, height, width = features.shape
        flat = features.permute(0, 2, 3, 1).reshape(count, height * width, channels)
        return flat.transpose(1, 2) @ flat / (height * width)


def _relative_distance(value: Tensor, target: Tensor) -> Tensor:
    value, target = value.float(), target.float()
    axes = tuple(range(1, value.ndim))
    return ((value - target) ** 2).sum(axes) / ((target**2).sum(axes) + _TINY)


def _variation(images: Tensor) -> Tensor:
    down, across = images.diff(dim=2) ** 2, images.diff(dim=3) ** 2
    return (down.sum((1, 2, 3)) + across.sum((1, 2, 3))) / images[0].numel()


def _device(torch: Any, platform: str) -> str:
    """PyTorch's name of the device, set to its fastest arithmetic."""
    if platform == "cpu":
        return "cpu"
    if platform != "gpu" or not torch.cuda.is_available():
        raise OptionError(
            f"peer torch must run where JAX runs, on {platform}, which this PyTorch "
            f"({torch.__version__}) can't use",
            "Install a PyTorch for this device, or leave --peer away",
        )
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = True
    return "cuda"
