"""Launch recipes: sound shell, sound Kubernetes, and workers that find their shards."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from batch_runs import save_pixels
from engine_jobs import LANDSCAPE, PORTRAIT, content_of, style_of
from schedulers import scheduler_programs

from nst_jax.cli.main import run
from nst_jax.files.ledger import read_ledger

LAUNCH = Path(__file__).parent.parent / "scripts" / "launch"

RECIPES: dict[str, tuple[list[list[str]], dict[str, str]]] = {
    "slurm": (
        [["slurm_array.sh"]] * 2,
        {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_CPUS_PER_TASK": "1"},
    ),
    "parallel": ([["gnu_parallel.sh"]], {"WORKERS": "2"}),
    "kubernetes gpu": (
        [["kubernetes.sh", "gpu"]],
        {"WORKERS": "2", "IMAGE": "image", "CLAIM": "claim"},
    ),
    "kubernetes tpu": (
        [["kubernetes.sh", "tpu"]],
        {"WORKERS": "2", "IMAGE": "image", "CLAIM": "claim"},
    ),
    "tpu slice": ([["tpu_slice.sh"]], {"TPU": "slice", "ZONE": "zone"}),
}


def launched(recipe: str, arguments: list[str], environment: dict[str, str]) -> str:
    """What the workers of a recipe print; Slurm's tasks are started here, one for each index."""
    commands, variables = RECIPES[recipe]
    running = [
        subprocess.Popen(
            [LAUNCH / command[0], *command[1:], *arguments],
            env=environment | variables | _array_index(index, len(commands)),
            stdout=subprocess.PIPE,
            text=True,
        )
        for index, command in enumerate(commands)
    ]
    printed = [one.communicate()[0] for one in running]
    assert [one.returncode for one in running] == [0] * len(running), printed
    return "".join(printed)


def _array_index(index: int, count: int) -> dict[str, str]:
    return {"SLURM_ARRAY_TASK_ID": str(index)} if count > 1 else {}


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_recipes_are_sound_shell(path):
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    assert shellcheck
    answer = subprocess.run([shellcheck, str(path)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout


def printed_job(kind: str, tmp_path: Path, *options: str) -> dict[str, Any]:
    environment = scheduler_programs(tmp_path, real=False) | RECIPES["kubernetes gpu"][1]
    command = [LAUNCH / "kubernetes.sh", kind, "/data/jobs.csv", "/data/renders", *options]
    text = subprocess.run(
        command, env=environment | {"PRINT": "1"}, capture_output=True, text=True, check=True
    ).stdout
    assert "@" not in text
    return yaml.safe_load(text)


@pytest.mark.parametrize("kind", ["gpu", "tpu"])
def test_the_kubernetes_job_is_one_and_gives_every_index_its_number(kind, tmp_path):
    job = printed_job(kind, tmp_path, "--style-weight", "2", "--preset", 'a "b" \\c')
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    spec = job["spec"]
    (worker,) = spec["template"]["spec"]["containers"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert worker["env"] == [{"name": "NST_JAX_SHARD_COUNT", "value": "2"}]
    assert worker["command"][-4:] == ["--style-weight", "2", "--preset", 'a "b" \\c']


def test_the_schema_can_refuse_a_job(tmp_path):
    job = printed_job("gpu", tmp_path)
    job["spec"]["completionsMode"] = job["spec"].pop("completionMode")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_worker_finds_its_shard_and_is_given_the_options(recipe, tmp_path):
    environment = scheduler_programs(tmp_path, real=False)
    told = launched(recipe, ["jobs.csv", "out", "--size", "32"], environment).splitlines()
    confined = "1,1,1 " if recipe == "tpu slice" else ""
    expected = f"{confined}batch jobs.csv --output-dir out --size 32"
    assert sorted(told) == [f"0/2 {expected}", f"1/2 {expected}"]


@pytest.mark.parametrize("recipe", ["slurm_array.sh", "gnu_parallel.sh", "tpu_slice.sh"])
def test_a_recipe_without_arguments_says_how_it_is_used(recipe, tmp_path):
    answer = subprocess.run(
        [LAUNCH / recipe],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/bin:/usr/bin"},
    )
    assert answer.returncode != 0
    assert "usage:" in answer.stderr


@pytest.fixture(scope="module")
def asked(narrow_file, tmp_path_factory) -> list[str]:
    """A manifest of five tiny jobs, and its options."""
    folder = tmp_path_factory.mktemp("manifest")
    rows = ["content,style,output"]
    for number in range(5):
        size = PORTRAIT if number == 4 else LANDSCAPE
        content = save_pixels(folder / f"c{number}.png", content_of(number, size))
        style = save_pixels(folder / f"s{number}.png", style_of(number))
        rows.append(f"{content},{style},{number}.png")
    (folder / "jobs.csv").write_text("\n".join(rows))
    return [
        *(str(folder / "jobs.csv"), "--weights", narrow_file, "--size", "32", "--levels", "1"),
        *("--steps", "2", "--content-taps", "relu1_1", "--style-taps", "relu1_1"),
    ]


@pytest.fixture(scope="module")
def single(asked, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    manifest, *options = asked
    programs = scheduler_programs(tmp_path_factory.mktemp("programs"), real=True)
    command = ["nst-jax", "batch", manifest, "--output-dir", str(folder), "--quiet", *options]
    subprocess.run(command, check=True, env=programs)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["slurm", "parallel", "kubernetes gpu", "tpu slice"])
def test_real_workers_of_a_recipe_give_the_bytes_of_one_process(recipe, asked, single, tmp_path):
    (tmp_path / "programs").mkdir()
    environment = scheduler_programs(tmp_path / "programs", real=True)
    manifest, *options = asked
    out = tmp_path / "out"
    launched(recipe, [manifest, str(out), "--quiet", *options], environment)
    for number in range(5):
        assert (out / f"{number}.png").read_bytes() == (single / f"{number}.png").read_bytes()
    assert {one["status"] for one in read_ledger(out).values()} == {"done"}
    assert sorted(path.name for path in out.glob("ledger*")) == [
        "ledger-0-of-2.jsonl",
        "ledger-1-of-2.jsonl",
    ]
    assert run(["report", str(out), "--quiet"]) == 0
