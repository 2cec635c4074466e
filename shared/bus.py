"""The message bus. The only file that imports nats; `shared/memory_bus.py` is its in-memory twin."""
