"""The whole process as its user starts it: real Postgres, real clients, an upstream that can misbehave."""
