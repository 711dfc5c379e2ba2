"""Trading: from scores to positions, fills, costs and net returns, and what those returns did."""
