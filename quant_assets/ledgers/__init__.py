"""Ledgers: append-only, hash-chained records of trials and of promotions."""
