"""Importance and diversity: which features and which members of the ensemble earn their place, out of sample."""
