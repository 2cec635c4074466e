"""Benchmarks: each prints machine, versions, command and commit, and writes raw results to benchmarks/results/."""
