"""`plan.json`: the slots of every canvas, chosen by a batch's first run and kept by the next."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from nst_jax.engine.inputs.fingerprint import shared_options
from nst_jax.engine.inputs.session import Session
from nst_jax.engine.plan.demand import Demand
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.slots import Plan
from nst_jax.engine.progress import Progress
from nst_jax.engine.run.run_record import write_json
from nst_jax.files.folders import Folder, reason_of
from nst_jax.request.errors import OutputError
from nst_jax.request.job import Job, picture_name
from nst_jax.request.options import JobOptions, Options

PLAN_NAME = "plan.json"


@dataclasses.dataclass(frozen=True)
class WholeBatch:
    """All jobs of a batch together, whoever renders which of them.

    Attributes:
        hash: What tells the batch from others.
        demand: What the jobs need.
    """

    hash: str
    demand: Demand


def batch_hash(jobs: Iterable[Job], options: Options) -> str:
    """What tells a batch from others: outputs, names of the inputs, options; in any order.

    Folders of inputs do not count: workers may have them mounted elsewhere.
    """
    texts: dict[int, str] = {}  # jobs may share their options

    def line(job: Job) -> str:
        own = job.options or JobOptions()
        if id(own) not in texts:
            texts[id(own)] = repr(own)
        names = (PurePath(picture_name(one)).name for one in job.pictures)
        return "\0".join((job.output, *names, texts[id(own)]))

    shared = json.dumps(shared_options(options), sort_keys=True)
    text = "\n".join([shared, *sorted(map(line, jobs))])
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def load_or_make_plan(
    jobs: Sequence[ExaminedJob],
    session: Session,
    folder: Folder,
    progress: Progress,
    *,
    whole: WholeBatch,
    is_alone: bool,
) -> Plan:
    """The plan in the folder, with what it lacks added and written back.

    Args:
        jobs: To be rendered.
        session: What they share.
        folder: The output folder.
        progress: Told what the user may not expect.
        whole: The batch that the jobs are a part of.
        is_alone: Whether no other worker shares the folder, so that the plan may be made for
            another batch from now on.

    Raises:
        OptionError: A batch, or even a single picture, fits no device.
        OutputError: The plan in the folder is none, or that of another batch.
        WriteError: The plan can't be written.
    """
    with folder.mutex():  # of workers that begin at one instant the first makes the plan
        earlier = _load_plan(folder) if is_alone else check_shared_batch(folder, whole.hash)
        plan = dataclasses.replace(
            session.make_plan(jobs, progress, earlier, whole=whole.demand), batch=whole.hash
        )
        if plan != earlier:
            save_plan(folder, plan)
    return plan


def check_shared_batch(folder: Folder, batch: str) -> Plan | None:
    """The folder's plan, if there is one; refuses a worker with other jobs than it was made for.

    Raises:
        OutputError: The worker has others, or the plan in the folder is none.
    """
    plan = _load_plan(folder)
    if plan is not None and plan.batch not in ("", batch):
        raise OutputError(
            f"the workers of output folder {folder.name!r} must all have the same jobs and "
            f"options, and its {PLAN_NAME} was made for others",
            "Give every worker the same manifest and options, or name another folder; to change "
            f"the batch, run it once without --shard or delete {PLAN_NAME}",
        )
    return plan


def adopt_plan(folder: Folder, batch: str) -> None:
    """Makes the folder's plan, if there is one, that of another batch; buckets keep their slots.

    Raises:
        OutputError: The plan in the folder is none.
        WriteError: The plan can't be written.
    """
    earlier = _load_plan(folder)
    if earlier is not None and earlier.batch != batch:
        save_plan(folder, dataclasses.replace(earlier, batch=batch))


def save_plan(folder: Folder, plan: Plan) -> None:
    """Writes the plan into the folder.

    Raises:
        WriteError: It can't be written.
    """
    write_json(folder, PLAN_NAME, plan.to_json())


def _load_plan(folder: Folder) -> Plan | None:
    try:
        content = folder.read(PLAN_NAME)
        return None if content is None else Plan.from_json(json.loads(content))
    except OSError as error:
        reason, remedy = reason_of(error), "Mend that and run the same command again"
        cause = error
    except ValueError as error:
        reason, remedy = str(error), "Delete it; finished pictures stay, the rest is planned anew"
        cause = error
    place = folder.path_of(PLAN_NAME)
    raise OutputError(f"plan {place!r} can't be read: {reason}", remedy) from cause
