"""Who is let in, and who waits."""
