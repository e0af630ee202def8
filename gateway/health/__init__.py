"""Readiness, gauges, the database's maintenance, and the other hosts' journals."""
