"""Stand-ins for schedulers: programs of their names that set the variables and run the workers.

Each is a Python script in a folder that comes first in the PATH. `kubectl` and `gcloud` run the
command that they are given once for each index or host.
"""

import os
import sys
from pathlib import Path

_PARALLEL = """
import os, shlex, subprocess, sys
arguments = sys.argv[1:]
if arguments == ["--version"]:
    sys.exit(print("GNU parallel 20221122"))
numbers = sys.stdin.read().split()
assert arguments[:2] == ["--jobs", str(len(numbers))], arguments
place = arguments.index("-N0") + 1
command = arguments[place:]
assert ":::" not in command, command  # where another list of inputs would begin
is_quoted = {"-q", "--quote"} & set(arguments[:place])
line = (shlex.join if is_quoted else " ".join)(command)  # which a shell reads
shell = os.environ.get("PARALLEL_SHELL", "bash")
running = [
    subprocess.Popen(
        [shell, "-c", line.replace("{}", "").replace("{#}", number)],
        env=os.environ | {"PARALLEL_SEQ": number},
    )
    for number in numbers
]
sys.exit(sum(one.wait() != 0 for one in running))
"""

_SRUN = """
import os, sys
command = sys.argv[1:]
while command[0].startswith("--"):
    command = command[1:]
os.execvpe(command[0], command, os.environ | {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"})
"""

_KUBECTL = """
import os, subprocess, sys, yaml
assert sys.argv[1:] == ["apply", "--filename", "-"], sys.argv
spec = yaml.safe_load(sys.stdin)["spec"]
(worker,) = spec["template"]["spec"]["containers"]
given = {one["name"]: one["value"] for one in worker["env"]}
running = [
    subprocess.Popen(
        [one.replace("$$", "$") for one in worker["command"]],
        env=os.environ | given | {"JOB_COMPLETION_INDEX": str(index)}
    )
    for index in range(spec["completions"])
]
sys.exit(sum(one.wait() != 0 for one in running))
"""

_GCLOUD = """
import os, subprocess, sys
arguments = sys.argv[1:]
assert arguments[:5] == ["compute", "tpus", "tpu-vm", "ssh", "slice"], arguments
assert "--worker=all" in arguments
command = arguments[arguments.index("--command") + 1]
running = [
    subprocess.Popen(["bash", "-c", command], env=os.environ | {"FAKE_HOST": str(host)})
    for host in range(2)
]
sys.exit(sum(one.wait() != 0 for one in running))
"""

_CURL = """
import os, sys
told = {
    "agent-worker-number": os.environ["FAKE_HOST"],
    "worker-network-endpoints": os.environ.get("FAKE_HOSTS", "10.0.0.1,10.0.0.2"),
}
print(told[sys.argv[-1].rsplit("/", 1)[1]])
"""

_PLAIN_WORKER = """
import os, sys
from nst_jax.request.shard_detection import detect_shard
arguments = sys.argv[1:]
asked = arguments[arguments.index("--shard") + 1]
shard = str(detect_shard(os.environ)) if asked == "auto" else asked
confined = os.environ.get("TPU_PROCESS_BOUNDS", "")
text = " ".join(one for one in arguments if one not in ("--shard", asked))
line = f"{shard} {confined} {text}".replace("  ", " ")
os.write(1, f"{line}\\n".encode())  # at once: others write into the same pipe
"""

_REAL_WORKER = "from nst_jax.cli.main import main; main()"


def scheduler_programs(folder: Path, *, real: bool) -> dict[str, str]:
    """Writes the stand-ins, and `nst-jax` itself or one that only says what it was asked.

    Returns:
        The environment in which they are found, without another scheduler's variables.
    """
    programs = {
        "parallel": _PARALLEL,
        "srun": _SRUN,
        "kubectl": _KUBECTL,
        "gcloud": _GCLOUD,
        "curl": _CURL,
        "nst-jax": _REAL_WORKER if real else _PLAIN_WORKER,
    }
    for name, text in programs.items():
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{text}")
        path.chmod(0o755)
    foreign = ("SLURM_", "TPU_", "MEGASCALE_", "JOB_COMPLETION", "PARALLEL_", "JAX_PROCESS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
