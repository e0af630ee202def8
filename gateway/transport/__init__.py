"""The HTTP client for relayed calls: connections, pool, headers, encodings."""
