"""What a device can say instead of a result (`JaxRuntimeError`), and whose fault that is."""

from nst_jax.request.errors import DeviceError

_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
# absl's words for what may well succeed another time. All others are a defect of ours.
_OF_THE_MACHINE = ("INTERNAL", "UNAVAILABLE", "ABORTED", "UNKNOWN", "DATA_LOSS", "CANCELLED")


def is_out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch may do."""
    return _OUT_OF_MEMORY in str(error)


def is_transient(error: Exception) -> bool:
    """Whether the same again may succeed."""
    return str(error).lstrip().startswith(_OF_THE_MACHINE)


def device_error(name: str, error: Exception, tries: int) -> DeviceError:
    """What a job that was tried so often is told."""
    times = "once" if tries == 1 else f"{tries} times"
    first_line = str(error).strip().split("\n")[0][:300]
    return DeviceError(
        f"job {name!r} was tried {times}, and the device failed: {first_line}",
        "Run the same command again, or on another device",
    )
