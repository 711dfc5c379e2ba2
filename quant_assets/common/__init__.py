"""What every stage shares: settings, errors, content hashing, the artifact store, logging, the look of pages."""
