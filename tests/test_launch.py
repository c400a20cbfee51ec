"""Launch recipes: sound shell, sound Kubernetes, and workers that find their shards."""

import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from batch_runs import check_same, save_job
from engine_jobs import LANDSCAPE, PORTRAIT
from schedulers import scheduler_programs

from nst_jax.cli.main import run

LAUNCH = Path(__file__).parent.parent / "scripts" / "launch"

KUBERNETES = {"WORKERS": "2", "IMAGE": "image", "CLAIM": "claim"}
RECIPES: dict[str, tuple[list[list[str]], dict[str, str]]] = {
    "slurm": (
        [["slurm_array.sh"]] * 2,
        {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_CPUS_PER_TASK": "1"},
    ),
    "parallel": ([["gnu_parallel.sh"]], {"WORKERS": "2"}),
    "kubernetes gpu": ([["kubernetes.sh", "gpu"]], KUBERNETES),
    "kubernetes tpu": ([["kubernetes.sh", "tpu"]], KUBERNETES),
    "tpu slice": ([["tpu_slice.sh"]], {"TPU": "slice", "ZONE": "zone"}),
}


def launched(recipe: str, arguments: list[str], environment: dict[str, str]) -> str:
    """What the workers of a recipe print; Slurm's tasks are started here, one for each index."""
    commands, variables = RECIPES[recipe]
    environment, running = environment | variables, []
    for index, command in enumerate(commands):
        if len(commands) > 1:
            environment["SLURM_ARRAY_TASK_ID"] = str(index)
        words = [LAUNCH / command[0], *command[1:], *arguments]
        worker = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
        running.append(worker)
    printed = [one.communicate()[0] for one in running]
    assert [one.returncode for one in running] == [0] * len(running), printed
    return "".join(printed)


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_recipes_are_sound_shell(path):
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    assert shellcheck
    answer = subprocess.run([shellcheck, str(path)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("kind", ["gpu", "tpu"])
def test_the_kubernetes_job_is_one_and_gives_every_index_its_number(kind, tmp_path):
    environment = scheduler_programs(tmp_path, real=False) | KUBERNETES | {"PRINT": "1"}
    command = [LAUNCH / "kubernetes.sh", kind, "/data/jobs.csv", "/data/renders"]
    command += ["--style-weight", "2", "--preset", 'a "b" \\c']
    text = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert "@" not in text
    job = yaml.safe_load(text)
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    wrong = {**job, "spec": {**job["spec"], "completionsMode": "Indexed"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)
    spec = job["spec"]
    (worker,) = spec["template"]["spec"]["containers"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert worker["env"] == [{"name": "NST_JAX_SHARD_COUNT", "value": "2"}]
    assert worker["command"][-4:] == ["--style-weight", "2", "--preset", 'a "b" \\c']


STRANGE = [
    *("--size", "a  b", "*", "; echo told", "$(echo told)", "$$(HOME)", "`id`", "it's"),
    *('a "b" \\c', "{}", "{#}", "a {%}", ":::", "", "&", "~", "@NAME@", "-q", "\u00e9"),
]
"""What a shell, GNU parallel, YAML or Kubernetes could read something into."""


NEEDS_PARALLEL = pytest.mark.skipif(
    "GNU parallel" not in subprocess.getoutput("parallel --version"), reason="it is not installed"
)


@pytest.mark.parametrize("recipe", [*RECIPES, pytest.param("real parallel", marks=NEEDS_PARALLEL)])
def test_every_worker_finds_its_shard_and_every_argument_comes_as_it_is(recipe, tmp_path):
    environment = scheduler_programs(tmp_path, real=False)
    if recipe == "real parallel":
        environment |= {"SHELL": "/bin/sh"}
        (tmp_path / "parallel").unlink()
    given = ["jobs $1.csv", "out", *STRANGE]
    told = launched(recipe.removeprefix("real "), given, environment).splitlines()
    confined = "1,1,1 " if recipe == "tpu slice" else ""
    arguments = " ".join(["jobs $1.csv", "--output-dir", "out", *STRANGE]).replace("  ", " ")
    assert sorted(told) == [f"{index}/2 {confined}batch {arguments}" for index in range(2)]


def refused(command: list[str], environment: dict[str, str]) -> str:
    """The lines with which a recipe refuses what it was asked."""
    answer = subprocess.run(
        [LAUNCH / command[0], *command[1:]],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert (answer.returncode, answer.stdout) == (2, "")
    return answer.stderr


ALL_RECIPES = {
    **{command[0]: (command[1:], given) for [command, *_], given in RECIPES.values()},
    "tpu_host.sh": ([], {}),
}
"""What each needs before the manifest, and in its environment."""


@pytest.mark.parametrize("recipe", ALL_RECIPES)
def test_a_recipe_says_how_it_is_used_and_takes_no_shard(recipe):
    first, variables = ALL_RECIPES[recipe]
    environment = {"PATH": "/bin:/usr/bin"} | variables
    for arguments in ([], [*first, "jobs.csv"], [*first, "", "out"]):
        (line,) = refused([recipe, *arguments], environment).splitlines()
        assert line.startswith(f"{recipe}: usage: ")
    for shard in (["--shard", "0/2"], ["--shard=auto"]):
        command = [recipe, *first, "jobs.csv", "out", "--size", "32", *shard]
        (line,) = refused(command, environment).splitlines()
        assert "no --shard may be given" in line
    answer = subprocess.run(
        [LAUNCH / recipe, "--help"], capture_output=True, text=True, check=True, env=environment
    )
    assert answer.stdout.startswith("usage: ")
    assert recipe in answer.stdout


@pytest.mark.parametrize("recipe", ["gnu_parallel.sh", "kubernetes.sh"])
@pytest.mark.parametrize("workers", ["", "0", "-1", "2.5", "x", "1 ", "9" * 30, "1\n2", "$(id)"])
def test_workers_must_be_a_whole_number_above_0(recipe, workers):
    first, variables = ALL_RECIPES[recipe]
    environment = {"PATH": "/bin:/usr/bin"} | variables | {"WORKERS": workers}
    told = refused([recipe, *first, "jobs.csv", "out"], environment)
    assert "WORKERS must be a whole number above 0" in told


PLAIN = ["gpu", "jobs.csv", "out"]
LABEL = "NAME must be a DNS label"


@pytest.mark.parametrize(
    ("variables", "arguments", "message"),
    [
        *(({"NAME": name}, PLAIN, LABEL) for name in ("My_Job", "a\nb", "-a", "a" * 64)),
        (
            {"NAME": "a" * 61, "WORKERS": "101"},
            PLAIN,
            "NAME and the last index must be 63 letters at most",
        ),
        ({"IMAGE": 'a"b'}, PLAIN, "IMAGE must be"),
        ({"CLAIM": "My claim"}, PLAIN, "CLAIM must be"),
        ({"CHIPS": "x"}, PLAIN, "CHIPS must be a whole number"),
        ({"TOPOLOGY": "2x"}, PLAIN, "TOPOLOGY must be such as 2x4"),
        ({"ACCELERATOR": '"'}, PLAIN, "ACCELERATOR must be"),
        ({}, ["cpu", "jobs.csv", "out"], "KIND must be gpu or tpu, got cpu"),
        ({}, [*PLAIN, "a\nb"], "must have no newline"),
        ({}, ["gpu", "jobs\n.csv", "out"], "must have no newline"),
        ({}, [*PLAIN, "a\tb"], "or other control character"),
    ],
)
def test_what_would_be_no_kubernetes_job_is_refused(variables, arguments, message):
    needed = {"PATH": "/bin:/usr/bin", "PRINT": "1"} | KUBERNETES
    (line,) = refused(["kubernetes.sh", *arguments], needed | variables).splitlines()
    assert message in line


def test_without_gnu_parallel_the_recipe_says_so(tmp_path):
    (tmp_path / "bash").symlink_to(shutil.which("bash") or "")
    (tmp_path / "env").symlink_to(shutil.which("env") or "")
    environment = {"PATH": str(tmp_path), "WORKERS": "2"}
    (line,) = refused(["gnu_parallel.sh", "jobs.csv", "out"], environment).splitlines()
    assert "GNU parallel must be installed" in line


@pytest.mark.parametrize(("hosts", "shard"), [("a,,b,", "1/2"), ("a, ,b,c", "1/3"), ("a", "0/1")])
def test_a_host_counts_the_names_that_are_not_empty(hosts, shard, tmp_path):
    environment = scheduler_programs(tmp_path, real=False)
    environment |= {"FAKE_HOSTS": hosts, "FAKE_HOST": shard[0]}
    command = [LAUNCH / "tpu_host.sh", "jobs.csv", "out"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert told.stdout.startswith(f"{shard} ")
    none = environment | {"FAKE_HOSTS": " ,"}
    assert "must name the slice's hosts" in refused(["tpu_host.sh", "jobs.csv", "out"], none)


@pytest.fixture(scope="module")
def single(narrow_file, tmp_path_factory) -> tuple[list[str], Path]:
    """Five tiny jobs as a manifest with its options, and where one process rendered them."""
    folder, out = (tmp_path_factory.mktemp(name) for name in ("manifest", "single"))
    rows = ["content,style,output"]
    for number in range(5):
        save_job(folder, number, size=PORTRAIT if number == 4 else LANDSCAPE)
        rows.append(f"c{number}.png,s{number}.png,{number}.png")
    (folder / "jobs.csv").write_text("\n".join(rows))
    manifest, *options = asked = [
        *(str(folder / "jobs.csv"), "--weights", narrow_file, "--size", "32", "--levels", "1"),
        *("--steps", "2", "--content-taps", "relu1_1", "--style-taps", "relu1_1"),
    ]
    programs = scheduler_programs(tmp_path_factory.mktemp("programs"), real=True)
    command = ["nst-jax", "batch", manifest, "--output-dir", str(out), "--quiet", *options]
    subprocess.run(command, check=True, env=programs)
    return asked, out


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["slurm", "parallel", "kubernetes gpu", "tpu slice"])
def test_real_workers_of_a_recipe_give_the_bytes_of_one_process(recipe, single, tmp_path):
    (tmp_path / "programs").mkdir()
    environment = scheduler_programs(tmp_path / "programs", real=True)
    (manifest, *options), expected = single
    out = tmp_path / "out"
    launched(recipe, [manifest, str(out), "--quiet", *options], environment)
    check_same(out, expected, 5)
    ledgers = sorted(path.name for path in out.glob("ledger*"))
    assert ledgers == [f"ledger-{index}-of-2.jsonl" for index in range(2)]
    assert run(["report", str(out), "--quiet"]) == 0
