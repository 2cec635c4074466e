"""The host model cache: one process per host owns the blobs of all models, workers map them from its descriptors."""
