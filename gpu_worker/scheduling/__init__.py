"""Who runs next: policies over plain data, without torch, clock or bus; a simulator can run the same classes."""
