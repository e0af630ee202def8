"""The story of one request: gates, record, upstream, relay, record, end."""
