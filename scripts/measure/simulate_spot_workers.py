"""A simulation of spot workers: preemptions, stragglers, retries, and what they cost a batch.

    python scripts/measure/simulate_spot_workers.py
    python scripts/measure/simulate_spot_workers.py --job-seconds 200 --slots 1 --jobs 200000 --json

Nothing is rendered and nothing is measured here: every duration is an option, most defaults are
assumptions, and what is printed follows from them. What is real is the design that it plays:

shares      each shard has a fixed, equal number of jobs, as `nst_jax.request.shards` deals them out
waves       `WAVE_JOBS` jobs go through the levels of the default schedule together, batch by batch
ledger      a picture is safe once the one writing thread has put its line after it
state       the jobs of a wave are kept every `--checkpoint-every` seconds, between two chunks
SIGTERM     the chunk is finished, pictures are written, the state is kept
SIGKILL     what came since the wave began, or since the last checkpoint, is lost
restart     boots, reads the manifest and the whole ledger, compiles or loads, takes up the state
fault       of the device: the batch is tried again from the beginning of its stage

Steps of the optimiser are counted for each picture. Each is useful, lost (of an unfinished picture
and not kept), doubled (of a finished picture whose line was not there yet) or retried; useful
steps are those of the default schedule, once for each job.
"""

import argparse
import collections
import dataclasses
import heapq
import itertools
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from ruled_options import Parser, following

from nst_jax.engine.plan.levels import Level, pyramid
from nst_jax.engine.plan.slots import WAVE_JOBS
from nst_jax.request.options import Options, with_canonical_taps
from nst_jax.request.shards import MOST_SHARDS
from nst_jax.request.taps import VGG16
from nst_jax.request.validators import FROM_0_TO_1, Validator, number_where, one_of, whole_number

TARGET = 0.03
"""Lost and doubled steps over useful ones, at one preemption a worker and hour, at most."""

CHUNK_S = 2.0
MOST_CHUNK_STEPS = 20
PICTURES_WAITING = 16
"""As the renderer and the writer have them."""

_TRIES = 1000
"""So many starts, or attempts at a stage, in a row that come to nothing are a standstill."""

_BACK_OFF_S = 1.0
_HOUR_S = 3600.0


@dataclasses.dataclass(frozen=True)
class World:
    """What a simulation assumes; seconds are of a worker of the usual speed."""

    workers: int = 1000
    """Machines, each with one process."""
    shards: int = 0
    """Parts of the batch; a worker that is done takes the next one. 0: as many as workers."""
    jobs: int = 1_000_000
    """Pictures of the batch."""
    job_seconds: float = 1.1
    """Of a full batch of the device, for each picture: the whole schedule."""
    slots: int = 16
    """Pictures in one batch of the device."""
    preemptions_per_hour: float = 1.0
    """Of one worker, while it is up."""
    notice_share: float = 0.0
    """Share of preemptions that send a SIGTERM first; the others only kill."""
    notice_seconds: float = 30.0
    """From the SIGTERM to the SIGKILL."""
    return_seconds: float = 300.0
    """Mean time until a preempted worker is there again; exponential."""
    checkpoint_every: float = 120.0
    """As `nst-jax batch --checkpoint-every`; 0: never."""
    save_seconds: float = 2.0
    """Of one keeping of the state, during which the device waits."""
    start_seconds: float = 30.0
    """Of a start: machine, interpreter, weights."""
    row_seconds: float = 36e-6
    """Of a start, for each job of the whole batch: manifest, names, shares, digest."""
    line_seconds: float = 37e-6
    """Of a start, for each line of the ledger of all workers."""
    compile_seconds: float = 300.0
    """All programs of the schedule, compiled."""
    load_seconds: float = 15.0
    """All programs, loaded from the cache."""
    cache: str = "lost"
    """lost: a preempted worker compiles again; kept: only at its first start; shared: never."""
    write_seconds: float = 0.06
    """Of the writing thread, for each picture and its line."""
    slow_share: float = 0.02
    """Share of workers that are stragglers."""
    slow_factor: float = 2.0
    """How many times as long a straggler takes for a step."""
    faults_per_hour: float = 0.02
    """Faults of the device that pass, of one worker while it renders."""
    seed: int = 0
    """Of all chance."""


_RATE = number_where("a number from 0 to 1e6", lambda value: 0 <= value <= 1e6)
_SECONDS = number_where("a number of seconds from 0 to 1e7", lambda value: 0 <= value <= 1e7)

_CACHES = ("lost", "kept", "shared")

_RULES: Mapping[str, Validator] = {
    "workers": whole_number(1, MOST_SHARDS),
    "shards": whole_number(0, MOST_SHARDS),
    "jobs": whole_number(1, 10**8),
    "job_seconds": number_where(
        "a number of seconds from 0.001 to 1e6", lambda value: 0.001 <= value <= 1e6
    ),
    "slots": whole_number(1, 4096),
    "preemptions_per_hour": _RATE,
    "cache": one_of(_CACHES),
    "notice_share": FROM_0_TO_1,
    "slow_share": FROM_0_TO_1,
    "slow_factor": number_where("a number from 1 to 1000", lambda value: 1 <= value <= 1000),
    "faults_per_hour": _RATE,
    "seed": whole_number(0, 2**32 - 1),
}
"""What each option may be that is no number of seconds."""


class StandstillError(Exception):
    """A worker loses all that it does, over and over."""


@dataclasses.dataclass
class Tally:
    """Steps, seconds of all workers together, and events."""

    useful: int = 0
    taken: int = 0
    lost: int = 0
    doubled: int = 0
    retried: int = 0
    wasted_seconds: float = 0.0
    step_seconds: float = 0.0
    start_seconds: float = 0.0
    ledger_seconds: float = 0.0
    compile_seconds: float = 0.0
    save_seconds: float = 0.0
    wait_seconds: float = 0.0
    away_seconds: float = 0.0
    noticed: int = 0
    killed: int = 0
    late: int = 0
    faults: int = 0
    compilations: int = 0

    def add(self, other: "Tally") -> None:
        """Adds another's numbers to these."""
        for field in dataclasses.fields(self):
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            setattr(self, field.name, ours + theirs)


@dataclasses.dataclass
class Batch:
    """Jobs that share a batch of the device and are equally far.

    Attributes:
        jobs: Their numbers.
        steps: That each has taken.
        kept: Of these, in the state's file.
    """

    jobs: list[int]
    steps: int = 0
    kept: int = 0


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The default schedule's steps and what each costs.

    Attributes:
        ends: Steps of a picture at the end of each level.
        step_seconds: Of one step of one picture at each level.
    """

    ends: tuple[int, ...]
    step_seconds: tuple[float, ...]

    @property
    def steps(self) -> int:
        """Of one picture."""
        return self.ends[-1]

    def seconds(self, steps: int) -> float:
        """Of the first so many steps of one picture."""
        starts = (0, *self.ends[:-1])
        return sum(
            each * min(max(steps - start, 0), end - start)
            for start, end, each in zip(starts, self.ends, self.step_seconds, strict=True)
        )


def schedule(job_seconds: float) -> Schedule:
    """The default schedule at 512 px, with steps that cost as their pixels do."""
    options = Options(size=512)
    ladder = pyramid((512, 512), options, with_canonical_taps(options, VGG16))
    each = job_seconds / sum(stage.steps * _pixels(stage) for stage in ladder)
    ends = itertools.accumulate(stage.steps for stage in ladder)
    return Schedule(tuple(ends), tuple(each * _pixels(stage) for stage in ladder))


def _pixels(stage: Level) -> int:
    return stage.canvas[0] * stage.canvas[1]


def share_sizes(jobs: int, shards: int) -> list[int]:
    """Jobs of each shard, as `request.shards.share` deals them out where costs are equal."""
    return [len(range(index, jobs, shards)) for index in range(shards)]


class _Preempted(Exception):
    """The machine is gone."""


class Run:
    """One shard on one worker, from its first start to its last line.

    Attributes:
        now: Seconds since the batch began.
        tally: What became of its steps and its time.
    """

    def __init__(
        self,
        world: World,
        plan: Schedule,
        jobs: range,
        ledger: np.ndarray,
        *,
        index: int,
        now: float,
        slowness: float,
        has_programs: bool,
    ) -> None:
        """A shard that is about to start.

        Args:
            world: What is assumed.
            plan: The schedule.
            jobs: The shard's.
            ledger: Lines of every job of the batch so far; it is written to.
            index: The shard's, which decides its luck.
            now: When it starts.
            slowness: How many times as long a step takes.
            has_programs: Whether compiled programs are on the machine already.
        """
        self.now, self.tally = now, Tally(useful=len(jobs) * plan.steps)
        self.has_programs = has_programs or world.cache == "shared"
        self._world, self._plan, self._ledger = world, plan, ledger
        self._slowness = slowness
        self._chance = np.random.default_rng((world.seed, index))
        self._count, self._left = len(jobs), len(jobs)
        every = [
            list(jobs[first : first + world.slots]) for first in range(0, len(jobs), world.slots)
        ]
        self._queue = collections.deque(map(Batch, every))
        self._lines: collections.deque[tuple[float, int, int]] = collections.deque()

    def play(self) -> None:
        """Starts, renders, is preempted, comes back, until every job has its line.

        Raises:
            StandstillError: It never would.
        """
        reached = 0
        for starts in itertools.count(1):
            if not self._left:
                return
            self._gone_at = self.now + self._wait_for(self._world.preemptions_per_hour)
            self._noticed = bool(self._chance.random() < self._world.notice_share)
            self._wave: list[Batch] = []
            try:
                self._start()
                self._render()
            except _Preempted:
                self._come_back()
            if starts % _TRIES == 0 and self._left:
                before, reached = reached, self._safe_steps()
                if reached <= before:
                    raise StandstillError(
                        f"the simulation must get on, but a worker was preempted {_TRIES} times "
                        "in a row and none of its work was kept in the end: lower "
                        "--preemptions-per-hour, or the seconds of a start, a checkpoint or a line"
                    )

    def _safe_steps(self) -> int:
        """That a preemption can't take away: of written pictures and of kept states."""
        kept = sum(batch.kept * len(batch.jobs) for batch in self._queue)
        return (self._count - self._left) * self._plan.steps + kept

    def _wait_for(self, events_per_hour: float) -> float:
        if events_per_hour == 0:
            return math.inf
        return float(self._chance.exponential(_HOUR_S / events_per_hour))

    def _come_back(self) -> None:
        away = float(self._chance.exponential(self._world.return_seconds))
        self.now += away
        self.tally.away_seconds += away
        if self._world.cache == "lost":
            self.has_programs = False

    # ---- A start.

    def _start(self) -> None:
        world, done = self._world, 1 - self._left / self._count
        self._spend("start_seconds", world.start_seconds + world.row_seconds * world.jobs)
        # Other workers are taken to be as far as this one.
        self._spend("ledger_seconds", world.line_seconds * world.jobs * done)
        if self.has_programs:
            self._spend("compile_seconds", world.load_seconds)
        else:
            self._spend("compile_seconds", world.compile_seconds)
            self.tally.compilations += 1
        self.has_programs = True
        self._kept_at = self.now
        self._writer_free = self.now
        self._fault_at = self.now + self._wait_for(world.faults_per_hour)

    def _spend(self, name: str, seconds: float) -> None:
        """Lets time pass in which no step is taken.

        Raises:
            _Preempted: The machine is gone before.
        """
        spent = min(seconds, max(self._gone_at - self.now, 0.0))
        setattr(self.tally, name, getattr(self.tally, name) + spent)
        self.now += spent
        if spent < seconds:
            self._end(noticed=self._noticed)

    # ---- Rendering.

    def _render(self) -> None:
        while self._queue:
            self._wave = list(self._next_wave())
            for level, end in enumerate(self._plan.ends):
                for batch in list(self._wave):
                    if batch.steps < end:
                        self._through(batch, level, end)
        self._await_lines(0)

    def _next_wave(self) -> Iterator[Batch]:
        count = 0
        while self._queue and (not count or count + len(self._queue[0].jobs) <= WAVE_JOBS):
            batch = self._queue.popleft()
            count += len(batch.jobs)
            yield batch

    def _through(self, batch: Batch, level: int, end: int) -> None:
        """Takes a batch through a stage; it costs as much with empty slots."""
        each = self._plan.step_seconds[level] * self._slowness * self._world.slots
        chunk = min(max(round(CHUNK_S / each), 1), MOST_CHUNK_STEPS)
        again_from, tries = batch.steps, 0
        while batch.steps < end:
            to = self._next_stop(batch, end, each, chunk)
            ends_at = self.now + (to - batch.steps) * each
            if self._gone_at < ends_at:
                self._break_off(batch, each, chunk, to)
            if self._fault_at < ends_at:
                self._take(batch, self._whole_steps(self._fault_at, each, to - batch.steps), each)
                self._try_again(batch, again_from)
                tries += 1
                if tries == _TRIES:
                    raise StandstillError(
                        "the simulation must get on, but the device failed "
                        f"{_TRIES} times in a row within one stage: lower --faults-per-hour, or "
                        "--job-seconds, --slots or --slow-factor"
                    )
                continue
            self._take(batch, to - batch.steps, each)
            if to < end:
                self._checkpoint()
                again_from, tries = max(again_from, batch.kept), 0
        if end == self._plan.steps:
            self._finish(batch)

    def _next_stop(self, batch: Batch, end: int, each: float, chunk: int) -> int:
        """Steps after which the stage ends, or the chunk in which a checkpoint falls due."""
        every = self._world.checkpoint_every
        if not every:
            return end
        steps = max(math.ceil((self._kept_at + every - self.now) / each), 1)
        chunks = -(-steps // chunk)
        return min(end, batch.steps + chunks * chunk)

    def _whole_steps(self, when: float, each: float, most: int) -> int:
        return min(max(int((when - self.now) / each), 0), most)

    def _take(self, batch: Batch, steps: int, each: float) -> None:
        batch.steps += steps
        self.now += steps * each
        self.tally.taken += steps * len(batch.jobs)
        self.tally.step_seconds += steps * each

    def _try_again(self, batch: Batch, again_from: int) -> None:
        self.tally.retried += (batch.steps - again_from) * len(batch.jobs)
        self._waste(batch.steps, again_from, len(batch.jobs))
        batch.steps = again_from
        self.tally.faults += 1
        self._spend("wait_seconds", _BACK_OFF_S)
        self._fault_at = self.now + self._wait_for(self._world.faults_per_hour)

    def _checkpoint(self) -> None:
        self._spend("save_seconds", self._world.save_seconds)
        for batch in self._wave:
            batch.kept = batch.steps
        # Pictures in the writer's hands have left the state, and not come into the ledger yet.
        self._lines = collections.deque((when, job, 0) for when, job, _ in self._lines)
        self._kept_at = self.now

    def _finish(self, batch: Batch) -> None:
        """Hands the pictures out; the writing thread holds the device up when it lags."""
        self._hand_out(batch)
        self._await_lines(PICTURES_WAITING)

    def _hand_out(self, batch: Batch) -> None:
        self._wave.remove(batch)
        for job in batch.jobs:
            self._writer_free = max(self._writer_free, self.now) + self._world.write_seconds
            self._lines.append((self._writer_free, job, batch.kept))

    def _await_lines(self, waiting: int) -> None:
        """Waits until no more pictures than these wait to be written."""
        if len(self._lines) > waiting:
            last = self._lines[-waiting - 1][0]
            self._spend("wait_seconds", max(last - self.now, 0.0))
            self.now = max(self.now, last)  # what their sum rounds to may be earlier
        self._write_until(self.now)

    def _write_until(self, when: float) -> None:
        while self._lines and self._lines[0][0] <= when:
            self._ledger[self._lines.popleft()[1]] += 1
            self._left -= 1

    # ---- The end of a machine.

    def _break_off(self, batch: Batch, each: float, chunk: int, most: int) -> NoReturn:
        """The preemption comes in the middle of a batch's steps."""
        steps = self._whole_steps(self._gone_at, each, most - batch.steps)
        if self._noticed:
            steps = min(-(-(steps + 1) // chunk) * chunk, most - batch.steps)
        self._take(batch, steps, each)
        if batch.steps == self._plan.steps:  # the last chunk was finished
            self._hand_out(batch)
        self._end(noticed=self._noticed)

    def _end(self, *, noticed: bool) -> NoReturn:
        """Keeps what there is time for, and counts the rest as lost or doubled.

        Raises:
            _Preempted: Always.
        """
        written_by = max([self.now, *(when for when, *_ in self._lines)])
        saved_by = written_by + (self._world.save_seconds if self._wave else 0.0)
        in_time = noticed and saved_by <= self._gone_at + self._world.notice_seconds
        self.tally.noticed += noticed
        self.tally.killed += not noticed
        self.tally.late += noticed and not in_time
        if in_time:
            self.tally.save_seconds += saved_by - written_by
            self.now = saved_by
            for batch in self._wave:
                batch.kept = batch.steps
        else:
            self.now = self._gone_at + (self._world.notice_seconds if noticed else 0.0)
        self._write_until(self.now)
        self._put_back()
        raise _Preempted

    def _put_back(self) -> None:
        """Jobs without a line wait again, those with a kept state first."""
        unwritten = [Batch([job], self._plan.steps, kept) for _, job, kept in self._lines]
        self._lines.clear()
        for batch in unwritten:
            self.tally.doubled += batch.steps - batch.kept
        for batch in self._wave:
            self.tally.lost += (batch.steps - batch.kept) * len(batch.jobs)
        waiting = [*_together(unwritten, self._world.slots), *self._wave]
        for batch in waiting:
            self._waste(batch.steps, batch.kept, len(batch.jobs))
            batch.steps = batch.kept
        self._wave = []
        begun = [batch for batch in waiting if batch.kept]
        fresh = [batch for batch in waiting if not batch.kept]
        self._queue.extendleft(reversed([*begun, *fresh]))

    def _waste(self, steps: int, kept: int, jobs: int) -> None:
        seconds = self._plan.seconds(steps) - self._plan.seconds(kept)
        self.tally.wasted_seconds += seconds * jobs * self._slowness


def _together(batches: Sequence[Batch], slots: int) -> list[Batch]:
    """Single jobs that are equally far, as batches."""
    by_kept: dict[int, list[int]] = collections.defaultdict(list)
    for batch in batches:
        by_kept[batch.kept] += batch.jobs
    return [
        Batch(jobs[first : first + slots], batches[0].steps, kept)
        for kept, jobs in by_kept.items()
        for first in range(0, len(jobs), slots)
    ]


@dataclasses.dataclass
class Outcome:
    """What a simulation came to.

    Attributes:
        tally: Of all workers together.
        ends: When each shard was done, in seconds from the beginning, sorted.
        ledger: Lines of each job in the merged ledger.
    """

    tally: Tally
    ends: np.ndarray
    ledger: np.ndarray

    @property
    def repeated_share(self) -> float:
        """Lost and doubled steps over useful ones."""
        return (self.tally.lost + self.tally.doubled) / max(self.tally.useful, 1)

    @property
    def wasted_share(self) -> float:
        """Device time of steps that were taken in vain over that of all steps."""
        return self.tally.wasted_seconds / max(self.tally.step_seconds, 1e-9)

    def tail(self, share: float) -> float:
        """Seconds from the time when this share of the shards is done until all are."""
        reached = self.ends[max(math.ceil(share * len(self.ends)) - 1, 0)]
        return float(self.ends[-1] - reached)

    def record(self, world: World) -> dict[str, Any]:
        """As `--json` prints it."""
        tally = dataclasses.asdict(self.tally)
        return {
            "world": dataclasses.asdict(world),
            "lost_and_doubled_share": round(self.repeated_share, 5),
            "wasted_device_share": round(self.wasted_share, 5),
            "target": TARGET,
            "target_is_met": max(self.repeated_share, self.wasted_share) < TARGET,
            "seconds": round(float(self.ends[-1]), 1),
            "half_done_seconds": round(float(self.ends[-1]) - self.tail(0.5), 1),
            "tail_from_half": round(self.tail(0.5), 1),
            "tail_from_99_percent": round(self.tail(0.99), 1),
            "tally": {name: round(value, 1) for name, value in tally.items()},
        }


def simulate(world: World) -> Outcome:
    """Plays a batch to its end; equal worlds come to equal outcomes.

    Raises:
        StandstillError: It has none.
    """
    shards = world.shards or world.workers
    plan, tally = schedule(world.job_seconds), Tally()
    ledger, ends = np.zeros(world.jobs, np.int64), np.zeros(shards)
    is_slow = np.random.default_rng(world.seed).random(world.workers) < world.slow_share
    free: list[tuple[float, int, bool]] = [(0.0, worker, False) for worker in range(world.workers)]
    first = 0
    for index, size in enumerate(share_sizes(world.jobs, shards)):
        now, worker, has_programs = heapq.heappop(free)
        run = Run(
            world,
            plan,
            range(first, first + size),
            ledger,
            index=index,
            now=now,
            slowness=world.slow_factor if is_slow[worker] else 1.0,
            has_programs=has_programs,
        )
        run.play()
        tally.add(run.tally)
        ends[index], first = run.now, first + size
        heapq.heappush(free, (run.now, worker, run.has_programs))
    return Outcome(tally, np.sort(ends), ledger)


def main() -> None:
    """Plays the world that the options describe and prints what it came to."""
    parser = Parser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for field in dataclasses.fields(World):
        name = f"--{field.name.replace('_', '-')}"
        value = following(_RULES.get(field.name, _SECONDS), type(field.default))
        metavar = f"{{{','.join(_CACHES)}}}" if field.name == "cache" else None
        parser.add_argument(name, type=value, default=field.default, metavar=metavar, help=" ")
    parser.add_argument("--json", action="store_true", help="print one object")
    asked = vars(parser.parse_args())
    as_json = asked.pop("json")
    world = World(**asked)
    try:
        outcome = simulate(world)
    except StandstillError as error:
        parser.error(str(error))
    text = json.dumps(outcome.record(world), indent=2) if as_json else told(outcome, world)
    sys.stdout.write(text + "\n")


def told(outcome: Outcome, world: World) -> str:
    """The outcome in lines for people."""
    tally, hours = outcome.tally, _HOUR_S
    met = max(outcome.repeated_share, outcome.wasted_share) < TARGET
    end = float(outcome.ends[-1])
    lines = [
        f"simulated: {world.jobs} jobs, {world.workers} workers, {len(outcome.ends)} shards, "
        f"seed {world.seed}",
        f"lost {tally.lost}, doubled {tally.doubled}, retried {tally.retried} of "
        f"{tally.taken} steps",
        f"lost and doubled: {outcome.repeated_share:.2%} of the useful steps; steps in vain: "
        f"{outcome.wasted_share:.2%} of device time",
        f"target of {TARGET:.0%} at {world.preemptions_per_hour:g} preemptions a worker and hour: "
        f"{'met' if met else 'MISSED'}",
        f"preempted with notice {tally.noticed} ({tally.late} of them too late), killed "
        f"{tally.killed}; faults of devices {tally.faults}",
        f"worker-hours: steps {tally.step_seconds / hours:.1f}, compilation "
        f"{tally.compile_seconds / hours:.1f} ({tally.compilations} compiled), starts "
        f"{tally.start_seconds / hours:.1f}, reading the ledger "
        f"{tally.ledger_seconds / hours:.1f}, keeping states {tally.save_seconds / hours:.1f}, "
        f"waiting for the writer or a device {tally.wait_seconds / hours:.1f}, away "
        f"{tally.away_seconds / hours:.1f}",
        f"half of the shards are done after {(end - outcome.tail(0.5)) / 60:.1f} min, all after "
        f"{end / 60:.1f} min: tail {outcome.tail(0.5) / 60:.1f} min from half, "
        f"{outcome.tail(0.99) / 60:.1f} min from 99 %",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
