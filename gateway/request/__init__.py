"""What a client asked for, checked and completed."""
