"""Chat templates and tokenization, in processes of their own: slow input holds up nobody's tokens."""
