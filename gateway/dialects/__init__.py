"""The APIs that callers speak: classify and assemble events, fingerprints, errors. Pure."""
