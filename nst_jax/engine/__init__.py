"""Many jobs on devices: canvases, levels, the solver, the renderer, the pipeline."""
