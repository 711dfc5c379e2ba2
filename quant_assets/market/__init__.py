"""Market data: calendar, bar sources and their row contract, corporate actions, quality rules, synthetic markets."""
