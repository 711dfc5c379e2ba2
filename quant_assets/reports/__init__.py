"""Reports: a candidate on one page."""
