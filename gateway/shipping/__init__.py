"""Moves finished records from the journal to the sinks, exactly once, whatever they refuse."""
