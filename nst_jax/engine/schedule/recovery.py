"""What becomes of a batch over which the device failed: fewer slots, another try, or a fault."""

from collections.abc import Callable, Sequence

from nst_jax.engine.device.errors import device_error, is_out_of_memory, is_transient
from nst_jax.engine.plan.canvas import size_text
from nst_jax.engine.plan.levels import Bucket
from nst_jax.engine.plan.slots import Plan
from nst_jax.engine.progress import Progress
from nst_jax.engine.schedule.active_job import ActiveJob
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.files.retry import pause_s
from nst_jax.request.errors import NoRoomError

_BACK_OFF_S = 1.0
"""Before a batch is tried again after a fault of the device; twice as long each time."""


class Recovery:
    """Says what becomes of batches over which the device failed.

    Attributes:
        plan: Slots by bucket. It shrinks when a batch does not fit the device.
    """

    def __init__(
        self,
        plan: Plan,
        retries: int,
        stop: StopToken,
        progress: Progress,
        on_plan_change: Callable[[Plan], object] | None = None,
    ) -> None:
        """Starts with a plan.

        Args:
            plan: Slots by bucket.
            retries: How often a batch is tried again after a transient fault.
            stop: Ends the wait between two tries.
            progress: Told what has failed and what is done about it.
            on_plan_change: Called with the plan when it has shrunk.
        """
        self.plan = plan
        self._retries = retries
        self._stop = stop
        self._progress = progress
        self._on_plan_change = on_plan_change

    def must_run_alone(self, job: ActiveJob) -> bool:
        """Whether this is a job's last try, which must blame nobody else."""
        return 0 < self._retries < job.attempts

    def handle(self, error: Exception, jobs: Sequence[ActiveJob], bucket: Bucket) -> None:
        """Sets `fault` on the jobs that shall not be tried again; returns after a pause.

        Args:
            error: What the devices said.
            jobs: Those of the batch.
            bucket: What they have alike.

        Raises:
            Exception: The error, where it is a defect of ours.
        """
        if is_out_of_memory(error):
            self._shrink(jobs, bucket)
            return
        if not is_transient(error):
            raise error
        for one in jobs:
            if one.attempts > self._retries:
                one.fault = device_error(one.loaded.name, error, one.attempts)
            else:
                one.attempts += 1
        again = [one for one in jobs if not one.fault]
        if again:
            self._wait(error, again)

    def _wait(self, error: Exception, again: Sequence[ActiveJob]) -> None:
        failures = again[0].attempts - 1
        first_line = str(error).split("\n")[0]
        self._progress.note(
            f"the device failed: {first_line}; trying again, {failures} of {self._retries}"
        )
        self._stop.wait(pause_s(_BACK_OFF_S, failures))

    def _shrink(self, jobs: Sequence[ActiveJob], bucket: Bucket) -> None:
        slots = self.plan.slots[bucket]
        try:
            self.plan = self.plan.halve(bucket)
        except NoRoomError as fault:
            for one in jobs:
                one.fault = fault
            return
        self._progress.note(
            f"a batch of {slots} does not fit the device at {size_text(bucket.canvas)}; "
            f"going on with {self.plan.slots[bucket]}"
        )
        if self._on_plan_change:
            self._on_plan_change(self.plan)
