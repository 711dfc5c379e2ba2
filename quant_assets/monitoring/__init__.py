"""Monitoring: drift of the features against the training window, and when drift becomes a retraining."""
