"""Tokens to what a client reads."""
