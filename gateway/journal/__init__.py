"""The write-ahead log of records on local disk: segments, group commit, recovery."""
