"""What the promises are worth when things go wrong: three ledgers, of clients, upstream and rows, compared."""
