"""HTTP in: every URL, the only package with aiohttp's server."""
