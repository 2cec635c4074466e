"""KV of sequences: who has which blocks on the device and in host memory, and what moves between them."""
