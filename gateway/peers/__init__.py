"""The other workers of this host, over unix sockets."""
