"""Many machines: a Ray cluster's workers and their tasks."""
