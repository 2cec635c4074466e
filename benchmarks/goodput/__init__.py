"""Attainment against load for each policy: curves on a virtual clock, confirmed by a real worker at a few points."""
