"""Tool calls in the text of a model: their formats, how they are read as they come, and how they can be required."""
