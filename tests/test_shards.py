"""Shards: every job is in exactly one, whoever deals, and a scheduler's variables tell which."""

import dataclasses
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nst_jax.request.errors import OptionError
from nst_jax.request.job import Job
from nst_jax.request.shard_detection import detect_shard
from nst_jax.request.shards import Shard, jobs_of_shard, parse_shard


def jobs(count: int) -> list[Job]:
    return [Job("c.png", "s.png", f"{number}.png") for number in range(count)]


def names(listed: list[Job]) -> list[str]:
    return [job.output for job in listed]


def dealt(listed: list[Job], count: int, costs=None) -> list[list[str]]:
    return [names(jobs_of_shard(listed, Shard(index, count), costs)) for index in range(count)]


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 9))
def test_every_job_is_in_exactly_one_shard_and_shares_differ_by_one_job_at_most(total, count):
    shares = dealt(jobs(total), count)
    assert sorted(itertools.chain(*shares)) == sorted(names(jobs(total)))
    sizes = list(map(len, shares))
    assert max(sizes) - min(sizes) <= 1


def test_the_order_of_jobs_and_the_spelling_of_outputs_do_not_matter():
    listed = jobs(40)
    mixed = [dataclasses.replace(job, output=f"./{job.output.upper()}") for job in listed]
    random.Random(1).shuffle(mixed)
    plain = dealt(listed, 3)
    other = [[name.lower().removeprefix("./") for name in one] for one in dealt(mixed, 3)]
    assert [sorted(one) for one in other] == [sorted(one) for one in plain]
    assert plain[0] == [name for name in names(listed) if name in plain[0]]  # in their order


def test_what_a_job_is_hashed_to_stays_from_release_to_release():
    """Else a worker of another release would take jobs that are another's."""
    assert dealt(jobs(6), 2) == [["0.png", "1.png", "3.png"], ["2.png", "4.png", "5.png"]]


@settings(deadline=None)
@given(st.lists(st.floats(1, 50), min_size=1, max_size=40), st.integers(1, 5))
def test_known_costs_are_dealt_out_evenly(costs, count):
    listed = jobs(len(costs))
    shares = dealt(listed, count, costs)
    assert sorted(itertools.chain(*shares)) == sorted(names(listed))
    of = dict(zip(names(listed), costs, strict=True))
    loads = [sum(of[name] for name in one) for one in shares]
    assert max(loads) - min(loads) <= max(costs) + 1e-6
    back = dealt(listed[::-1], count, costs[::-1])
    assert [sorted(one) for one in back] == [sorted(one) for one in shares]


BEYOND = dict.fromkeys(("4/4", "1/0", "0/1000001", "9/3"), "shard")
NO_SHARD = dict.fromkeys(
    ("", "1", "-1/4", "1/4/2", "a/b", "1of4", "\u0663/\u0664"), "from 0 to N-1"
)


@pytest.mark.parametrize(("text", "said"), (BEYOND | NO_SHARD).items())
def test_what_names_no_shard_is_refused(text, said):
    with pytest.raises(OptionError, match=said):
        parse_shard(text)


def test_a_shard_says_its_name():
    assert parse_shard(" 0 / 4 ") == Shard(0, 4)
    assert (str(Shard(3, 4)), Shard(3, 4).name) == ("3/4", "3-of-4")


def slurm_array(number: int, count: int, *, first: int = 0, step: int = 1) -> dict[str, str]:
    values = {"ID": number, "COUNT": count, "MIN": first, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


SLURM_ARRAY = slurm_array(5, 4, first=3)
SLURM_STEP = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "3"}
TPU = {"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "a,b,c,d"}
KUBERNETES = {"JOB_COMPLETION_INDEX": "2", "NST_JAX_SHARD_COUNT": "4"}
PARALLEL = {"PARALLEL_SEQ": "4", "NST_JAX_SHARD_COUNT": "4"}
ONE_HOST = {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "localhost"}
ONE_TASK = {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}
SCRIPT = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}
SLICES = {"MEGASCALE_SLICE_ID": "1", "MEGASCALE_NUM_SLICES": "2"}

TOLD = {
    "slurm array": (SLURM_ARRAY, Shard(2, 4)),
    "array in steps of 10": (slurm_array(30, 4, first=10, step=10), Shard(2, 4)),
    "slurm step": (SLURM_STEP, Shard(1, 3)),
    "tasks within an array": (SLURM_ARRAY | SLURM_STEP, Shard(7, 12)),
    "array of one task a step": (SLURM_ARRAY | ONE_TASK, Shard(2, 4)),
    "kubernetes": (KUBERNETES, Shard(2, 4)),
    "kubernetes, a TPU of one host each": (KUBERNETES | ONE_HOST, Shard(2, 4)),
    "cloud tpu": (TPU, Shard(1, 4)),
    "several slices": (TPU | SLICES, Shard(5, 8)),
    "jax.distributed": ({"JAX_PROCESS_ID": "0", "JAX_NUM_PROCESSES": "2"}, Shard(0, 2)),
    "parallel": (PARALLEL, Shard(3, 4)),
    "two that agree": (KUBERNETES | TPU | {"TPU_WORKER_ID": "2"}, Shard(2, 4)),
    "the script of an array's task": (SLURM_ARRAY | {"SLURM_PROCID": "0"}, Shard(2, 4)),
    "an array of one, in its script": (
        {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "1", "SLURM_PROCID": "0"},
        Shard(0, 1),
    ),
    "parallel in the script of a Slurm job": (PARALLEL | {"SLURM_PROCID": "0"}, Shard(3, 4)),
    "names of hosts that are empty": (TPU | {"TPU_WORKER_HOSTNAMES": "a,,b, ,"}, Shard(1, 2)),
    "an array and how many it is": (SLURM_ARRAY | {"NST_JAX_SHARD_COUNT": "4"}, Shard(2, 4)),
    "alone": ({"JAX_PROCESS_ID": "0", "JAX_NUM_PROCESSES": "1"}, Shard(0, 1)),
}


@pytest.mark.parametrize(("variables", "shard"), TOLD.values(), ids=TOLD)
def test_the_variables_of_a_scheduler_tell_the_shard(variables, shard):
    assert detect_shard(variables) == shard


UNTOLD = {
    "none": ({}, r"got none\. Name the shard: --shard I/N"),
    "a script of Slurm outside its steps": (
        SCRIPT,
        "SLURM_PROCID is set and SLURM_STEP_NUM_TASKS, ",
    ),
    "a script of Slurm on one host": (SCRIPT | ONE_HOST, "SLURM_STEP_NUM_TASKS, which srun sets"),
    "a count alone": ({"NST_JAX_SHARD_COUNT": "4"}, "NST_JAX_SHARD_COUNT is set and no worker's"),
    "slices without their hosts": (
        SLICES | SLURM_STEP,
        "MEGASCALE_SLICE_ID is set and TPU_WORKER_ID is not",
    ),
    "beyond the count": ({"PARALLEL_SEQ": "5", "NST_JAX_SHARD_COUNT": "4"}, "PARALLEL_SEQ.*4/4"),
    "counted from 0": ({"PARALLEL_SEQ": "0", "NST_JAX_SHARD_COUNT": "4"}, "-1/4"),
    "holes in an array": (SLURM_ARRAY | {"SLURM_ARRAY_TASK_ID": "17"}, "one after the other"),
    "no number": ({"JOB_COMPLETION_INDEX": "x"}, "must be a whole number"),
    "thousands of digits": (
        {"JOB_COMPLETION_INDEX": "9" * 5000},
        r"9 digits at most for shard auto, got '9{20}'… \(5000 letters\)",
    ),
    "only names of hosts that are empty": (
        TPU | {"TPU_WORKER_HOSTNAMES": " ,"},
        "TPU_WORKER_ID is set and TPU_WORKER_HOSTNAMES is not",
    ),
    "more tasks within an array than shards may be": (
        slurm_array(0, 2000) | {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2000"},
        "SLURM_ARRAY_TASK_COUNT times SLURM_STEP_NUM_TASKS: .*0/4000000",
    ),
    "more hosts of slices than shards may be": (
        TPU | {"MEGASCALE_SLICE_ID": "0", "MEGASCALE_NUM_SLICES": "500000"},
        "MEGASCALE_NUM_SLICES times the hosts of TPU_WORKER_HOSTNAMES: .*1/2000000",
    ),
    "an array of more than shards may be": (
        slurm_array(0, 2_000_000),
        "SLURM_ARRAY_TASK_COUNT: .*0/2000000",
    ),
    "two that contradict": (
        SLURM_ARRAY | TPU,
        "Slurm says 2/4 and the Cloud TPU slice says 1/4",
    ),
    "another count": (SLURM_ARRAY | {"NST_JAX_SHARD_COUNT": "5"}, "NST_JAX_SHARD_COUNT says 5"),
}


@pytest.mark.parametrize(("variables", "message"), UNTOLD.values(), ids=UNTOLD)
def test_variables_that_do_not_tell_or_contradict_are_refused_with_the_remedy(variables, message):
    with pytest.raises(OptionError, match=message) as refused:
        detect_shard(variables)
    assert "--" in refused.value.remedy


HALVES = {
    "JOB_COMPLETION_INDEX": "NST_JAX_SHARD_COUNT",
    "PARALLEL_SEQ": "NST_JAX_SHARD_COUNT",
    "SLURM_ARRAY_TASK_ID": "SLURM_ARRAY_TASK_COUNT",
    "SLURM_ARRAY_TASK_COUNT": "SLURM_ARRAY_TASK_ID",
    "SLURM_PROCID": "SLURM_STEP_NUM_TASKS",
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
    "TPU_WORKER_ID": "TPU_WORKER_HOSTNAMES",
    "TPU_WORKER_HOSTNAMES": "TPU_WORKER_ID",
    "MEGASCALE_SLICE_ID": "MEGASCALE_NUM_SLICES",
    "MEGASCALE_NUM_SLICES": "MEGASCALE_SLICE_ID",
    "JAX_PROCESS_ID": "JAX_NUM_PROCESSES",
    "JAX_NUM_PROCESSES": "JAX_PROCESS_ID",
}
"""Each variable that tells a half, and the one that it is half without."""


@pytest.mark.parametrize(
    "others",
    [{}, ONE_HOST, ONE_TASK, SLURM_STEP, SLURM_ARRAY, TPU | SLICES],
    ids=lambda others: "+".join(others) or "nothing",
)
@pytest.mark.parametrize(("told", "missing"), HALVES.items(), ids=HALVES)
def test_a_half_is_refused_whatever_else_is_told(told, missing, others):
    known = {name: value for name, value in others.items() if name != missing} | {told: "3"}
    with pytest.raises(OptionError, match=f"{told} is set and {missing}"):
        detect_shard(known)


def test_what_else_is_known_must_agree_too():
    told = {"jax.distributed": Shard(1, 4)}
    assert detect_shard(TPU, told) == Shard(1, 4)
    with pytest.raises(OptionError, match=r"jax\.distributed says 1/4 and Slurm says 2/4"):
        detect_shard(SLURM_ARRAY, told)
