"""Imports a model into the cache once, in a process of its own: check, convert, write, probe, publish."""
