"""The gateway's cost, compared with a raw TCP splice and with a direct connection: `python -m tests.bench`."""
