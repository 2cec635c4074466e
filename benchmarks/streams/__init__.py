"""Many streams and many connections at one gateway."""
