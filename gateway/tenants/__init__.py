"""Whose requests these are, and how much each may ask for."""
