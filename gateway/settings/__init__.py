"""Settings from the environment over one TOML file, checked as a whole."""
