"""The HTTP front: OpenAI's API over the pipeline."""
