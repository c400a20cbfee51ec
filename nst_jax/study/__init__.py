"""Experiments on the method itself: what each layer knows, one batch an experiment."""
