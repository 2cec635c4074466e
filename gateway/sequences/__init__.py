"""Sequences in flight, owned from submission to their end."""
