"""`kottos bench serve`: load on any server with the API of OpenAI, and what its clients saw."""
