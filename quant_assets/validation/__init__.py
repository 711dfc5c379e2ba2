"""Validation: purged splits, Sharpe statistics, the trial ledger, gates and their verdicts, the tear sheet."""
