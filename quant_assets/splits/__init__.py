"""Splits: purged and embargoed, over label intervals: combinatorial, k-fold, walk-forward."""
