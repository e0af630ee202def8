"""Health, metrics, the pages and the API's documentation."""
