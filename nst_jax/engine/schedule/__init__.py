"""Which job is in which slot, and when; how a run stops, recovers and finishes."""
