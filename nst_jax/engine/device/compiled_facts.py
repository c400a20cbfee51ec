"""What a compiled program tells of itself: its memory, and where devices wait for each other."""

import re
from typing import Any

_COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)


def bytes_on_each_device(program: Any) -> int | None:
    """Arguments, results and temporary memory of a compiled program; None where untold."""
    try:
        memory = program.memory_analysis()
    except (AttributeError, RuntimeError):  # a backend without it
        return None
    if memory is None:
        return None
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes  # donated ones are arguments
    return memory.argument_size_in_bytes + results + memory.temp_size_in_bytes


def collectives_in(text: str) -> list[str]:
    """The operations over several devices in a compiled program's text, one for each."""
    found = re.findall(rf"\b({'|'.join(_COLLECTIVES)})(?:-start)?\(", text)
    return sorted(found)
