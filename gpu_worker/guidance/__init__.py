"""Outputs that have to match a grammar: matchers compiled beside the token loop, masks beside forward passes."""
