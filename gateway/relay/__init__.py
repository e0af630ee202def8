"""An answer on its way from the upstream to the caller: passed on, folded into a completion, kept."""
