"""Quant machine learning as gated, replayable assets."""
