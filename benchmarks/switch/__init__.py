"""What changing models costs, by each way of bringing weights in."""
