"""The process: listening, signals, draining, and a supervisor of several workers."""
