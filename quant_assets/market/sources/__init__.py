"""Bar sources: files, databases and seeds, mapped to one row contract or refused with one message."""
