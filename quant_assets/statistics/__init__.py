"""Statistics: the Sharpe ratio and its inference, selection among trials, track records, rates with intervals."""
