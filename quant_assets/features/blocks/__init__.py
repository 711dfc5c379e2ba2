"""Features of a universe larger than memory, in blocks of symbols."""
