"""One batch in one folder: resume, checkpoint, writer, run record."""
