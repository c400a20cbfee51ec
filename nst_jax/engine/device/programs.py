"""The programs of a run: what each computes, on what it runs, and its name.

Nothing else in the engine compiles. A program is known by its name, which says the canvas,
the slots and the taps, so whoever watches can name every compilation.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax.engine.device import solver
from nst_jax.engine.device.compiled_programs import CompiledPrograms
from nst_jax.engine.device.program_names import taps_text
from nst_jax.engine.device.recent_sessions import CompiledSession
from nst_jax.engine.device.warm_start import warm_start
from nst_jax.engine.plan.canvas import Size, size_text
from nst_jax.engine.plan.devices import Devices
from nst_jax.engine.progress import Progress
from nst_jax.model import targets
from nst_jax.model.content import ContentTarget
from nst_jax.model.style import Moments, StyleTarget
from nst_jax.model.vgg import VGG, transpose_network
from nst_jax.request.errors import say_count
from nst_jax.request.options import StyleLoss

Taps = tuple[str, ...]


class ProgramCache(CompiledPrograms):
    """The programs of a run, one method for each kind; see `CompiledPrograms`."""

    def __init__(
        self,
        network: VGG,
        devices: Devices,
        progress: Progress,
        *,
        products: str = "default",
        session: CompiledSession | None = None,
    ) -> None:
        """Starts without a program of its own.

        Args:
            network: The VGG.
            devices: What programs run on.
            progress: Told of compilations.
            products: How exactly float32 numbers are multiplied; see `devices.Precision`.
            session: What earlier calls have compiled; None: nothing.
        """
        super().__init__(devices, progress, products, session or CompiledSession())
        self.network = self._network_on(devices.subset_for(1), network=network)

    def content_targets(
        self,
        canvas: Size,
        taps: Taps,
        normalized: str,
        image: Any,
        size: Any,
        is_transposed: bool = False,
    ) -> dict[str, ContentTarget]:
        """The content's side of a job's targets by tap, on the first device.

        Args:
            canvas: The picture's.
            taps: Where.
            normalized: A name in `model.normalization`.
            image: The picture on its canvas.
            size: Its own.
            is_transposed: Whether it lies there with rows and columns swapped.
        """

        def content_targets(image, network, size):
            return targets.content_targets(image, network, size, taps, normalized)

        name = f"content targets {size_text(canvas)} {','.join(taps)} by {normalized}"
        network = self._network_on(self.devices.subset_for(1), is_transposed)
        return self._call(name, content_targets, (image, network, size))

    def style_moments(
        self, canvas: Size, taps: Taps, image: Any, size: Any, weights: Any = None
    ) -> dict[str, Moments]:
        """What the style's side of a job's targets is made of by tap, for one picture.

        Args:
            canvas: The picture's.
            taps: Where.
            image: The picture on its canvas.
            size: Its own.
            weights: Of each tap's positions; None: all count alike.
        """

        def style_moments(image, network, size, weights):
            return targets.style_moments(image, network, size, taps, weights)

        masked = " under a mask" if weights else ""
        name = f"style moments {size_text(canvas)} {','.join(taps)}{masked}"
        return self._call(name, style_moments, (image, self.network, size, weights))

    def style_targets(
        self,
        taps: Taps,
        kind: StyleLoss,
        normalized: str,
        moments: Sequence[Mapping[str, Moments]],
        blend: Any,
    ) -> dict[str, StyleTarget]:
        """The style's side of a job's targets by tap, on the first device; of any canvas.

        Args:
            taps: Where.
            kind: How styles are compared.
            normalized: A name in `model.normalization`.
            moments: Of each style, by tap.
            blend: float32 weights of the styles, which sum to 1.
        """

        def style_targets(moments, blend):
            return targets.style_targets(moments, blend, kind, normalized)

        of = say_count(len(moments), "style")
        name = f"style targets {','.join(taps)} {kind} by {normalized} of {of}"
        return self._call(name, style_targets, (tuple(moments), blend))

    def run_chunk(
        self,
        canvas: Size,
        states: solver.State,
        problems: solver.Problem,
        num_steps: Any,
        is_transposed: bool = False,
    ) -> tuple[solver.State, Any]:
        """`num_steps` steps of a batch; the states given are consumed. With them comes a report.

        Where all images lie transposed, the network's kernels are transposed as well; they are
        arguments, so the program is the same.
        """
        slots = _slots_of(problems)
        used = self.devices.subset_for(slots)
        count = self._copy_to(used, num_steps, even_alone=True)
        arguments = (states, problems, self._network_on(used, is_transposed), count)
        name = f"step {size_text(canvas)} x {slots} {taps_text(problems)}"
        return self._call(name, solver.run_chunk, arguments, used.slot_sharding(slots), (0,))

    def open(self, canvas: Size, slots: int, one: Any) -> Any:
        """A batch of so many slots with this state and problem in the first.

        The others have them too, but no step to take: they are padding until `place` fills them.
        """

        def open_batch(one):
            whole = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (slots, *leaf.shape)), one)
            states, problems = whole
            steps = jnp.where(jnp.arange(slots) == 0, problems.steps, 0)
            return states, problems._replace(steps=steps)

        used = self.devices.subset_for(slots)
        name = f"open {size_text(canvas)} x {slots} {taps_text(one[1])}"
        arguments = (self._copy_to(used, one),)
        return self._call(name, open_batch, arguments, used.slot_sharding(slots))

    def place(self, canvas: Size, batch: Any, slot: int, one: Any) -> Any:
        """A batch with one slot's states and problems replaced; the batch given is consumed."""
        slots = _slots_of(batch)
        used = self.devices.subset_for(slots)
        count = used.count

        def place(batch, device, row, one):
            is_there = jnp.arange(count) == device

            def replace(whole, new):
                apart = _split_by_device(whole, count)
                old = jax.lax.dynamic_index_in_dim(apart, row, 1, keepdims=False)
                rows = jnp.where(is_there.reshape(-1, *[1] * new.ndim), new, old)
                return jax.lax.dynamic_update_index_in_dim(apart, rows, row, 1).reshape(whole.shape)

            return jax.tree.map(replace, batch, one)

        where = map(np.int32, divmod(slot, slots // count))
        arguments = (batch, *self._copy_to(used, (*where, one)))
        name = f"place {size_text(canvas)} x {slots} {taps_text(batch[1])}"
        return self._call(name, place, arguments, used.slot_sharding(slots), (0,))

    def take(self, canvas: Size, states: solver.State, slot: int) -> solver.State:
        """One slot's state, as a batch of one on the first device; the states given stay.

        Each device gives a slot of its own, of which one is the one that is asked for: between
        devices nothing is computed, or they would have to wait for each other.
        """
        slots = _slots_of(states)
        used = self.devices.subset_for(slots)
        count = used.count

        def take(states, row):
            def index(whole):
                apart = _split_by_device(whole, count)
                return jax.lax.dynamic_index_in_dim(apart, row, 1, keepdims=False)

            return jax.tree.map(index, states)

        device, row = divmod(slot, slots // count)
        arguments = (states, self._copy_to(used, np.int32(row)))
        name = f"take {size_text(canvas)} x {slots}"
        taken = self._call(name, take, arguments, used.slot_sharding(slots))
        if count == 1:
            return taken
        own = jax.tree.map(lambda leaf: leaf.addressable_shards[device].data, taken)
        return jax.device_put(own, self.devices.subset_for(1).replicated_sharding)

    def next_level(
        self,
        state: solver.State,
        sizes: tuple[Size, Size],
        canvases: tuple[Size, Size],
        decays: tuple[float, float],
        *,
        is_grey: bool,
    ) -> solver.State:
        """The state before a level's first step, from the one that the level before has left.

        Args:
            state: One job's, as a batch of one on the first device.
            sizes: Of the job's image there and here, in pixels.
            canvases: That they lie on.
            decays: Adam's.
            is_grey: Whether the job shall have no colours.
        """

        def next_level(state, old_size, size, decays, is_grey):
            alone = jax.tree.map(lambda leaf: leaf[0], state)
            return warm_start(alone, old_size, size, canvases[1], decays, is_grey)

        name = f"next level {size_text(canvases[0])} > {size_text(canvases[1])}"
        old_size, size = (np.asarray(one, np.int32) for one in sizes)
        arguments = (state, old_size, size, np.asarray(decays, np.float32), np.bool_(is_grey))
        return self._call(name, next_level, arguments)

    def _network_on(
        self, used: Devices, is_transposed: bool = False, *, network: VGG | None = None
    ) -> VGG:
        """The VGG on these of the devices; a copy of `network` where it is not there yet.

        Args:
            used: The devices.
            is_transposed: Whether it is for images that lie with rows and columns swapped.
            network: None: that of the first device.
        """
        key = used.count, is_transposed
        with self.session.lock:
            if key not in self.session.networks:
                whole = network or self.network
                whole = transpose_network(whole) if is_transposed else whole
                self.session.networks[key] = used.replicate(whole)
            return self.session.networks[key]

    def _copy_to(self, used: Devices, tree: Any, *, even_alone: bool = False) -> Any:
        """Arrays of the host or the first device on all of these; as they are on one alone."""
        if used.count == 1 and not even_alone:
            return tree
        return jax.device_put(tree, used.replicated_sharding)


def _split_by_device(whole: Any, count: int) -> Any:
    """An array of all slots as (devices, slots of each, ...)."""
    return whole.reshape(count, len(whole) // count, *whole.shape[1:])


def _slots_of(batch: Any) -> int:
    return jax.tree.leaves(batch)[0].shape[0]
