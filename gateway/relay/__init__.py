"""Passes an upstream's answer on as it comes, and keeps it for the record."""
