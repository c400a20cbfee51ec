"""Levels, canvases, slots and memory: what a run will do, as arithmetic without arrays."""
