"""Throughput, roofline and peers side by side: how fast the engine's own programs are."""
