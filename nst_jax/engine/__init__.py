"""Many jobs on devices; `render` and `batch` are the front doors, in memory and into a folder.

plan       levels, canvases, slots, memory: arithmetic without arrays
inputs     weights and pictures: opened, checked, loaded on threads
device     compiled programs and the arrays that they work on
schedule   which job is in which slot, and when; stop, recover, finish
run        one batch in one folder: resume, checkpoint, writer, run record
cluster    many machines
"""
