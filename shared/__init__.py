"""What the services agree on: messages, subjects, bus, configuration, model catalogue, errors."""
