"""The command line: one short file a command, and the only place that prints or exits."""
