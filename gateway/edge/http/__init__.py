"""What every handler shares: responses, bodies, parameters, errors, origin checks."""
