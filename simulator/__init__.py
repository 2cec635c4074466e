"""A worker on a virtual clock: the production policies and bookkeeping, with steps and copies that only take time."""
