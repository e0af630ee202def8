"""The security monitor as a sink: client, spool, ordering, payload."""
