"""Anthropic's Messages API: requests, responses, errors, routes."""
