"""Running transformers models from one contiguous blob: module, packed batch, sampling, probe."""
