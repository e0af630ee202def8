"""What the gateway costs, beside a raw TCP splice and nothing at all: `python -m tests.bench`."""
