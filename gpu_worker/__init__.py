"""Runs models: the only place with torch."""

import os

# How often libgomp's threads look for the others before they sleep: 0.1 ms or so instead of 5. A thread that another
# process has displaced gets the sleeping ones' core then, else every barrier of a step takes a time slice. It is read
# when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "4000")
