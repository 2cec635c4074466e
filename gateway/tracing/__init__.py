"""What is noted of traced requests, and the spans that it becomes."""
