"""Keys, the live page's audit, and the report."""
