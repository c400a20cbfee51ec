"""`nst-jax presets`: what each named setting sets, and where it departs from its source."""

import dataclasses
from typing import Any

from nst_jax.cli.console import print_json
from nst_jax.request.presets import PRESETS, Preset


@dataclasses.dataclass(frozen=True)
class Presets:
    """List the named settings that --preset takes.

    Example: nst-jax presets --json
    """

    json: bool = False
    """Print them as one JSON object."""

    def run(self) -> int:
        """Lists; returns the exit status."""
        if self.json:
            print_json({name: _record(preset) for name, preset in PRESETS.items()})
        else:
            print("\n\n".join(map(_text, PRESETS.values())))
        return 0


def _record(preset: Preset) -> dict[str, Any]:
    return {
        "summary": preset.summary,
        "source": preset.source,
        "network": preset.network,
        "values": dict(preset.values),
        "departures": list(preset.departures),
    }


def _text(preset: Preset) -> str:
    lines = [f"{preset.name}: {preset.summary}"]
    if preset.source:
        lines.append(f"  after {preset.source}")
    lines += [f"    {name} = {_value_text(value)}" for name, value in preset.values.items()]
    if preset.network:
        lines.append(f"  its objective is exact on {preset.network}, approximate on any other")
    if preset.departures:
        lines.append("  it departs from its source:")
        lines += [f"    - {departure}" for departure in preset.departures]
    return "\n".join(lines)


def _value_text(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_value_text, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
