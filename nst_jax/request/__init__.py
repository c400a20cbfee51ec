"""What is asked for: plain Python, no jax, no I/O beyond reading a manifest."""
