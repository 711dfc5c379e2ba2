"""Models: base learners, the stacked ensemble, cross-predictions and the recipe that binds evidence to it."""
