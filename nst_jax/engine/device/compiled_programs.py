"""Compiled programs by name: each made once, by whichever thread needs it first, and timed."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding, PartitionSpec

from nst_jax.engine.device import runtime
from nst_jax.engine.device.compiled_facts import bytes_on_each_device
from nst_jax.engine.device.recent_sessions import CompiledSession
from nst_jax.engine.plan.devices import Devices
from nst_jax.engine.progress import Progress
from nst_jax.model.vgg import VGG


class _NetworkLeaves(NamedTuple):
    """The arrays of a VGG."""

    arrays: tuple[Any, ...]


class ProgramRequest(NamedTuple):
    """A program as it is asked for.

    Attributes:
        name: What it is known by.
        function: What it computes.
        arguments: Arrays or their shapes; of a network its leaves alone.
        layout: How its results lie; None: on the first device.
        donate: Which arguments it consumes.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    layout: NamedSharding | None
    donate: tuple[int, ...]


class CompiledPrograms:
    """Programs by name, compiled when they are first called, or ahead of that by other threads.

    Attributes:
        network: The VGG, on the first device; whoever inherits from this opens it.
        devices: What programs run on.
        session: What earlier calls have compiled, and this one.
        products: How exactly float32 numbers are multiplied; see `devices.Precision`.
        progress: Told of compilations.
        compiled: Seconds of compilation by the program's name, in order, whoever waited for it; of
            loading, where a cache on disk had it.
        waiting_seconds: Wall seconds that callers waited for programs to be there.
        compile_cpu_seconds: CPU seconds that they took for it themselves.
        loaded: Names of those that came from the cache.
    """

    network: VGG

    def __init__(
        self, devices: Devices, progress: Progress, products: str, session: CompiledSession
    ) -> None:
        """Starts without a program of its own."""
        self.session = session
        self.devices = devices
        self.products = products
        self.compiled: dict[str, float] = {}
        self.waiting_seconds = 0.0
        self.compile_cpu_seconds = 0.0
        self.loaded: set[str] = set()
        self.progress = progress
        self._untold: set[str] = set()
        self._programs: dict[str, Any] = {}
        self._leaves: dict[int, _NetworkLeaves] = {}

    @property
    def memory(self) -> dict[str, int]:
        """Bytes on each device, by the compiler's own account, by the program's name.

        A backend may tell nothing.
        """
        told = {name: bytes_on_each_device(one) for name, one in self._programs.items()}
        return {name: needed for name, needed in told.items() if needed is not None}

    def _call(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        layout: NamedSharding | None = None,
        donate: tuple[int, ...] = (),
    ) -> Any:
        """Runs a program; see `ProgramRequest`."""
        arguments = self._flatten_network(arguments)
        return self._answer(ProgramRequest(name, function, arguments, layout, donate))

    def _answer(self, asked: ProgramRequest) -> Any:
        """The results of a program, which is compiled where it is not there."""
        name = asked.name
        with runtime.without_debugging():
            if name not in self._programs:
                self._programs[name] = self.session.find(name) or self._wait_for(asked)
            return self._programs[name](*asked.arguments)

    def _flatten_network(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Arguments of a program with the VGG's arrays alone: to find them takes a while."""

        def flatten(one: Any) -> Any:
            if not isinstance(one, VGG):
                return one
            if id(one) not in self._leaves:  # which outlives nothing: the session holds the VGG
                self._leaves[id(one)] = _NetworkLeaves(tuple(jax.tree.leaves(one)))
            return self._leaves[id(one)]

        return tuple(map(flatten, arguments))

    def _wait_for(self, asked: ProgramRequest) -> Any:
        """A program that is not there yet; what is waited for is told and timed."""

        def tell() -> None:
            if asked.name in self._untold:
                self.progress.on_compile(asked.name)

        began, cpu_began = time.perf_counter(), time.thread_time()
        program = self.compile(asked, on_wait=tell)
        self.waiting_seconds += time.perf_counter() - began
        self.compile_cpu_seconds += time.thread_time() - cpu_began
        return program

    def compile(
        self,
        asked: ProgramRequest,
        *,
        is_told: bool = True,
        on_wait: Callable[[], object] = lambda: None,
    ) -> Any:
        """A program by its name, compiled where it is not there; any thread may ask for it.

        Args:
            asked: The program.
            is_told: Whether the progress hears of it at once; else once it is waited for.
            on_wait: Called before another thread is waited for that compiles it.
        """

        def compile_now() -> Any:
            if is_told:
                self.progress.on_compile(asked.name)
            else:
                self._untold.add(asked.name)
            with runtime.without_debugging():
                return self._compile(asked)

        return self.session.get(asked.name, compile_now, on_wait)

    def _compile(self, asked: ProgramRequest) -> Any:
        name, function, arguments, layout, donate = asked
        began = time.perf_counter()
        structure = jax.tree.structure(self.network)
        results = layout or self.devices.subset_for(1).replicated_sharding
        shapes = jax.tree.map(functools.partial(_shape_for, results, layout), arguments)

        # JAX remembers a program for as long as its function lives, and this one dies here.
        @functools.wraps(function)
        def passing(*values: Any) -> Any:
            return function(*(restore(one) for one in values))

        def restore(one: Any) -> Any:
            return jax.tree.unflatten(structure, one[0]) if type(one) is _NetworkLeaves else one

        jitted = jax.jit(passing, donate_argnums=donate, out_shardings=results)
        with runtime.count_cache_hits() as loads, jax.default_matmul_precision(self.products):
            program = jitted.lower(*shapes).compile()
        self.compiled[name] = time.perf_counter() - began
        if loads.count:
            self.loaded.add(name)
        return program


def _shape_for(results: NamedSharding, layout: NamedSharding | None, leaf: Any) -> Any:
    """What a program knows of an argument: the same of the host's, the first device's, a shape's.

    So a program does not depend on who asks for it first.
    """
    sharding = getattr(leaf, "sharding", None)
    if layout is None or not isinstance(sharding, NamedSharding):
        sharding = NamedSharding(results.mesh, PartitionSpec())
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
