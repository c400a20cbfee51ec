"""Options that were given in several places, put together: a job's own, the run's, its preset's."""

from collections.abc import Mapping
from typing import Any

from nst_jax.request.errors import OptionError
from nst_jax.request.given_names import without_first_steps
from nst_jax.request.options import JOB_FIELDS, SHARED_FIELDS, JobOptions, Options, job_options
from nst_jax.request.presets import find_preset


def complete_options(own: JobOptions, options: Options) -> JobOptions:
    """What a job's own options say, and for the rest what the run says.

    Raises:
        OptionError: The job has a value of its own for what all jobs of a run share, or its
            values don't fit those of the run.
    """
    for name in sorted(own.given_names.intersection(SHARED_FIELDS) - {"preset"}):
        if getattr(own, name) != getattr(options, name):
            raise OptionError(
                f"{name} must be the same for all jobs of a run, got {getattr(own, name)!r} in "
                f"the options of a job and {getattr(options, name)!r} in those of the run",
                "Give it to the run alone",
            )
    said = own.given_names.intersection(JOB_FIELDS)
    if len(said) == len(JOB_FIELDS) and type(own) is JobOptions:
        return own
    return job_options(options, **fill_steps({name: getattr(own, name) for name in said}, options))


def fill_steps(given: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """What a job is given, with `first_steps` where it has `steps` and the run's preset the other.

    What the run itself was given stays; see `without_first_steps`.
    """
    preset = find_preset(options.preset)
    is_of_preset = options.first_steps == preset.values.get("first_steps")
    return (without_first_steps(preset, given) if is_of_preset else {}) | dict(given)


def override_options(options: Options, given: Mapping[str, Any]) -> Options:
    """Options with some given anew; what neither was given follows from the preset.

    Raises:
        OptionError: No such option, or a wrong value.
    """
    said = {name: getattr(options, name) for name in options.given_names}
    return Options(**{**said, **fill_steps(given, options)})
