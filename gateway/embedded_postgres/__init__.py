"""A PostgreSQL of the gateway's own, for a first run."""
