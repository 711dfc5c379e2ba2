"""Runtimes: what can score a model, how fast each is, and whether each decides as the model does."""
