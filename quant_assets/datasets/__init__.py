"""Labels with their times, and the training set with its manifest."""
