"""Compiled programs and the arrays that they work on."""
