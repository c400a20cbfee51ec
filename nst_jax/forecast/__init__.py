"""What a run will be: canvases, memory and operations, on devices at hand or not."""
