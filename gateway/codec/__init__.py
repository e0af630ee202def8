"""Server-sent events, JSON text and text spans, bytes to values. Pure."""
