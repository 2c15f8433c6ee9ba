"""What topics hold, over sockets that clients of others speak."""
