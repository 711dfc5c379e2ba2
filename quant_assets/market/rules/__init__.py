"""Bar rules: what makes a bar or a panel suspicious, and what becomes of it."""
