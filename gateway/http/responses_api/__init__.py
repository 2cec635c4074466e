"""OpenAI's Responses API, without state: requests, responses, events, routes."""
