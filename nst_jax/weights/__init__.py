"""Network weights at rest: our own format, everybody else's, and where they lie."""
