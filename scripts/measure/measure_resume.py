"""Seconds and memory of a resume over many finished jobs, none of whose files is read again.

python scripts/measure/measure_resume.py [JOBS]

Pictures and ledger are made up: small files, with the stamps, fingerprints and curves that a run
would have left. Then the batch is asked for once more.
"""

import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from PIL import Image

from nst_jax import Job, JobOptions, Options, render_batch
from nst_jax.engine.curve import MOST_POINTS, LossPoint
from nst_jax.engine.inputs.session import ExaminedJob, open_session
from nst_jax.engine.progress import NullProgress
from nst_jax.engine.results import Result
from nst_jax.engine.schedule.waves import examine_jobs
from nst_jax.files import open_picture
from nst_jax.files.ledger import LEDGER_NAME
from nst_jax.files.storage import version_tag
from nst_jax.request.job import fill_defaults

OPTIONS = Options(size=64, steps=10)
STYLES = 300
OLD_S = 1000


def main() -> None:
    """Makes a finished batch in another process, resumes it in this one, prints what that took."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, __file__, str(count), name], check=True)
        before = _megabytes()
        read = AssertionError("a file is read again")
        with mock.patch.object(open_picture, "file_digest", side_effect=read):
            began = time.perf_counter()
            summary = render_batch(_jobs(folder, count), folder / "out", OPTIONS)
            seconds = time.perf_counter() - began
        assert (summary.skipped, summary.done, summary.failed) == (count, 0, 0)
        ledger = (folder / "out" / LEDGER_NAME).stat().st_size / 2**20
    print(
        f"{count} finished jobs, a ledger of {ledger:.0f} MiB: resumed in {seconds:.1f} s, "
        f"{_megabytes():.0f} MiB at the most ({before:.0f} MiB before it)"
    )


def _jobs(folder: Path, count: int) -> list[Job]:
    """Contents that all differ, a few hundred styles, a seed for each job."""
    return [
        Job(
            str(folder / f"content-{number:06d}.png"),
            str(folder / f"style-{number % STYLES:03d}.png"),
            f"{number:06d}.png",
            JobOptions(seed=number),
        )
        for number in range(count)
    ]


def make(folder: Path, count: int) -> None:
    """Fills a folder as a batch of so many jobs would have left it."""
    picture = io.BytesIO()
    Image.new("RGB", (40, 32)).save(picture, "png")
    content, sha256 = picture.getvalue(), hashlib.sha256(picture.getvalue()).hexdigest()
    jobs = _jobs(folder, count)
    out = folder / "out"
    out.mkdir()
    for name in {str(source) for job in jobs for source in (job.content, *job.styles)}:
        Path(name).write_bytes(content)
        os.utime(
            name, (time.time() - OLD_S, time.time() - OLD_S)
        )  # long enough ago for its stamp to count
    curve = tuple(LossPoint(step, *[1 / (step + 3)] * 4) for step in range(MOST_POINTS))
    setup = open_session(OPTIONS)
    with (out / LEDGER_NAME).open("w") as ledger:
        for one in examine_jobs(fill_defaults(jobs, OPTIONS), setup, NullProgress()):
            assert isinstance(one, ExaminedJob), one
            path = out / one.job.output
            path.write_bytes(content)
            result = Result(
                one.index,
                one.job,
                losses=curve[-1]._asdict(),
                curve=curve,
                fingerprint=one.fingerprint,
                sha256=sha256,
                stamp=version_tag(path),
                inputs=setup.pictures.records([one.job.content, *one.job.styles]),
            )
            ledger.write(json.dumps(result.record()) + "\n")


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if len(sys.argv) > 2:
        make(Path(sys.argv[2]), int(sys.argv[1]))
    else:
        main()
