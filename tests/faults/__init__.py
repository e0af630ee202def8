"""The promises under faults: what clients saw, what the upstream was sent and the rows are compared."""
