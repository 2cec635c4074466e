"""OpenAI's chat and text completions: requests, responses, routes."""
