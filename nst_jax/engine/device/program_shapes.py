"""Programs of a plan made from shapes alone: nothing runs, and no picture is needed.

What a run calls with arrays is called here with their shapes, by the same code, so it is the same
program. Compiled ahead, by `nst-jax warmup` or for `nst-jax plan --compile`, it is at hand when a
run comes to it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
import numpy.typing as npt

from nst_jax.engine.device.compiled_programs import ProgramRequest
from nst_jax.engine.device.problem import make_problem
from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.targets import VARIATIONS
from nst_jax.engine.device.warm_start import cold_start
from nst_jax.engine.plan import program_list
from nst_jax.engine.plan.canvas import Size, square_canvas
from nst_jax.engine.plan.devices import Devices
from nst_jax.engine.plan.levels import Bucket, Level
from nst_jax.engine.plan.program_list import PlannedProgram
from nst_jax.model.objective import Targets
from nst_jax.model.style import RegionsTarget
from nst_jax.model.targets import content_targets, style_moments, style_targets
from nst_jax.model.vgg import VGG
from nst_jax.request.options import Options, job_options
from nst_jax.request.taps import poolings_before, smallest_side

_ANY_SIZES: tuple[Size, Size] = ((1, 1), (1, 1))
_ANY_DECAYS = (0.0, 0.0)


class NamedProgram(NamedTuple):
    """A program that can be compiled.

    Attributes:
        name: What a run knows it by.
        compile: Compiles it where it is not there, and gives it; see `ProgramCache.compile`.
    """

    name: str
    compile: Callable[..., Any]


class _FoundProgram(Exception):
    """Ends a call as soon as it is known what it would run."""

    def __init__(self, program: NamedProgram) -> None:
        super().__init__(program.name)
        self.program = program


class ProgramShapes(ProgramCache):
    """A cache of programs that is asked with shapes: it names programs, and runs none.

    They go into the cache that it was made of. It is of one thread.
    """

    def __init__(self, programs: ProgramCache, options: Options) -> None:
        """Shapes of a run.

        Args:
            programs: The run's.
            options: Likewise.
        """
        super().__init__(
            programs.network,
            programs.devices,
            programs.progress,
            products=programs.products,
            session=programs.session,
        )
        self._run = programs
        self._options = options
        self._inputs: dict[Bucket, Any] = {}

    def is_begun(self, planned: PlannedProgram) -> bool:
        """Whether a program is known to be there, or under way."""
        name = self.session.names.get(planned)
        return name is not None and self.session.is_begun(name)

    def find(self, planned: PlannedProgram) -> NamedProgram:
        """A program of a plan, by name and ready to be compiled."""
        try:
            self._call_planned(planned)
        except _FoundProgram as found:
            self.session.names[planned] = found.program.name
            return found.program
        raise AssertionError(f"{planned} calls no program")

    def _call_planned(self, planned: PlannedProgram) -> None:
        """Calls a program as a run does, with shapes."""
        match planned:
            case program_list.ContentTargets(canvas, taps, normalized):
                self.content_targets(canvas, taps, normalized, *_image_shapes(canvas))
            case program_list.StyleMoments(edge, taps, is_masked):
                canvas = square_canvas(edge)
                masks = {tap: _floats(*_tap_shape(tap, canvas)) for tap in taps}
                image = _image_shapes(canvas)
                self.style_moments(canvas, taps, *image, masks if is_masked else None)
            case program_list.StyleTargets(taps, normalized, styles):
                moments = [_moments_shapes(self.network, taps)] * styles
                kind = self._options.style_loss
                self.style_targets(taps, kind, normalized, moments, _floats(styles))
            case program_list.OpenBatch(bucket, slots):
                self.open(bucket.canvas, slots, self._input_shapes(bucket))
            case program_list.PlaceJob(bucket, slots):
                one = self._input_shapes(bucket)
                self.place(bucket.canvas, _add_slots(one, self.devices, slots), 0, one)
            case program_list.StepBatch(bucket, slots):
                one = self._input_shapes(bucket)
                states, problems = _add_slots(one, self.devices, slots)
                self.run_chunk(bucket.canvas, states, problems, np.int32(0))
            case program_list.TakeState(canvas, slots):
                states = _state_shapes(canvas, self._options)
                self.take(canvas, _add_slots(states, self.devices, slots), 0)
            case program_list.NextLevel(old, new):
                state = _add_slots(_state_shapes(old, self._options), self.devices, 1)
                self.next_level(state, _ANY_SIZES, (old, new), _ANY_DECAYS, is_grey=False)

    def _copy_to(self, used: Devices, tree: Any, *, even_alone: bool = False) -> Any:
        return tree

    def _answer(self, asked: ProgramRequest) -> NoReturn:
        compile_it = functools.partial(self._run.compile, asked)
        raise _FoundProgram(NamedProgram(asked.name, compile_it))

    def _input_shapes(self, bucket: Bucket) -> Any:
        """What goes into a slot of a bucket, as a `SlotInput` has it: state and problem."""
        if bucket not in self._inputs:
            problem = _problem_shapes(self.network, bucket, self._options)
            self._inputs[bucket] = _state_shapes(bucket.canvas, self._options), problem
        return self._inputs[bucket]


def _problem_shapes(network: VGG, bucket: Bucket, options: Options) -> Any:
    """A job's problem in a bucket, as shapes without a value."""
    canvas, regions, structure = bucket
    own = dataclasses.replace(
        job_options(options),
        **structure._asdict(),
        content_tap_weights=(),
        style_tap_weights=(),
    )
    level = Level(0, canvas, canvas, max(canvas), steps=1, regions=regions)
    look = functools.partial(content_targets, taps=own.content_taps)
    blend = functools.partial(
        style_targets, kind=options.style_loss, normalized=own.style_normalization
    )
    moments = _moments_shapes(network, own.style_taps)
    style: Any = jax.eval_shape(blend, (moments,), _floats(1))
    if regions:
        style = {tap: _region_shapes(target, tap, bucket) for tap, target in style.items()}
    image, size = _image_shapes(canvas)
    content = jax.eval_shape(look, image, network, size)
    return make_problem(own, level, Targets(content, style, VARIATIONS[options.tv_loss]))


def _moments_shapes(network: VGG, taps: tuple[str, ...]) -> Any:
    """A style's moments, which are the same of any canvas."""
    image, size = _image_shapes(square_canvas(smallest_side(taps)))
    return jax.eval_shape(functools.partial(style_moments, taps=taps), image, network, size)


def _region_shapes(target: Any, tap: str, bucket: Bucket) -> RegionsTarget:
    masks: Any = _floats(bucket.regions, *_tap_shape(tap, bucket.canvas))
    weights: Any = _floats(bucket.regions)
    return RegionsTarget((target,) * bucket.regions, masks, weights)


def _tap_shape(tap: str, canvas: Size) -> Size:
    height, width = (side >> poolings_before(tap) for side in canvas)
    return height, width


def _image_shapes(canvas: Size) -> tuple[Any, npt.NDArray[np.int32]]:
    """An image on its canvas, and its size."""
    return _floats(*canvas, 3), np.zeros(2, np.int32)


def _state_shapes(canvas: Size, options: Options) -> Any:
    state = cold_start(np.zeros((1, 1, 3), np.float32), canvas, options.optimizer)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)


def _add_slots(tree: Any, devices: Devices, slots: int) -> Any:
    sharding = devices.slot_sharding(slots)

    def add(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((slots, *leaf.shape), leaf.dtype, sharding=sharding)

    return jax.tree.map(add, tree)


def _floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.float32)
