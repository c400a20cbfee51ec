"""A scheduler for the jobs of a session, with programs that earlier calls have compiled."""

from collections.abc import Callable, Hashable, Iterable, Sequence

import jax

from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.recent_sessions import CompiledSession, recent_session
from nst_jax.engine.device.targets import TargetCache, TargetProvider
from nst_jax.engine.inputs.fingerprint import shared_options
from nst_jax.engine.inputs.session import Session
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.slots import Plan
from nst_jax.engine.progress import Progress
from nst_jax.engine.schedule.compile_ahead import count_threads
from nst_jax.engine.schedule.previews import Preview, Previews
from nst_jax.engine.schedule.scheduler import NO_RETRIES, Scheduler
from nst_jax.engine.schedule.snapshot import JobSnapshot
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.engine.schedule.timing import Timing
from nst_jax.request.options import Options
from nst_jax.request.run_policy import RunPolicy
from nst_jax.request.taps import deepest_tap


def make_programs(
    session: Session,
    jobs: Sequence[ExaminedJob],
    progress: Progress,
    taps: Iterable[str] = (),
    *,
    keep: bool = False,
) -> ProgramCache:
    """A cache of programs whose network reaches every tap of the jobs.

    Args:
        session: What the jobs share.
        jobs: What will be rendered.
        progress: Told of compilations.
        taps: Canonical taps of jobs that will come later.
        keep: Whether to begin with what earlier calls have compiled, and leave it to later ones;
            else it is empty.
    """
    needed = {*taps} | {
        tap for one in jobs for tap in (*one.options.content_taps, *one.options.style_taps)
    }
    compiled = recent_session(_session_key(session, needed)) if keep else CompiledSession()
    with compiled.lock:
        network = compiled.networks.get((1, False)) or session.network(needed)
        return ProgramCache(
            network,
            session.devices,
            progress,
            products=session.precision.products,
            session=compiled,
        )


_NO_PART_OF_PROGRAMS = ("size", "levels", "bit_depth")
"""Of the options that all jobs share: a program's name says how large its pictures are."""

_DOUBLE_PRECISION = "jax_enable_x64"


def _session_key(session: Session, taps: Iterable[str]) -> Hashable:
    """Whatever networks and programs follow from, by content."""
    static = shared_options(session.options)
    return (
        session.weights.content_sha256,
        deepest_tap(taps, session.weights.architecture),
        session.precision.name,
        tuple(session.devices.mesh.devices.flat),
        tuple((name, static[name]) for name in static if name not in _NO_PART_OF_PROGRAMS),
        getattr(jax.config, _DOUBLE_PRECISION),
    )


def make_scheduler(
    session: Session,
    jobs: Sequence[ExaminedJob],
    plan: Plan,
    progress: Progress,
    *,
    programs: ProgramCache | None = None,
    targets: TargetProvider | None = None,
    policy: RunPolicy = NO_RETRIES,
    stop: StopToken | None = None,
    save: Callable[[Sequence[JobSnapshot]], object] | None = None,
    on_plan_change: Callable[[Plan], object] | None = None,
    show: Callable[[Preview], None] | None = None,
    timing: Timing | None = None,
    threads_ahead: int | None = None,
) -> Scheduler:
    """A scheduler for the jobs of a session; see `Scheduler`.

    Args:
        session: What the jobs share.
        jobs: What will be rendered.
        plan: Slots by bucket.
        progress: Told what happens.
        programs: Of an earlier scheduler of the session; None: those of the last calls, and new
            ones.
        targets: Likewise; None: a new cache of content and style targets.
        policy: What to do about accidents.
        stop: Asks the run to stop.
        save: Keeps snapshots.
        on_plan_change: Called with a plan that has shrunk.
        show: Gets previews, where the session's options ask for them.
        timing: Where the seconds are added up.
        threads_ahead: How many compile programs ahead of need; None: as many as have cores. Those
            of targets of another kind are not known ahead.
    """
    options: Options = session.options
    programs = programs or make_programs(session, jobs, progress, keep=True)
    targets = targets or TargetCache(programs, options)
    threads = count_threads(session.devices) if threads_ahead is None else threads_ahead
    every = options.preview_every
    return Scheduler(
        programs,
        targets,
        plan,
        progress,
        optimizer=options.optimizer,
        policy=policy,
        stop=stop,
        save=save,
        on_plan_change=on_plan_change,
        previews=Previews(every, show) if every and show else None,
        timing=timing,
        threads_ahead=threads if isinstance(targets, TargetCache) else 0,
        bucket_count=len({level.bucket for one in jobs for level in one.levels}),
    )
