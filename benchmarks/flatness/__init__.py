"""Whether memory stays flat while a worker, and the whole stack, serve thousands of requests."""
