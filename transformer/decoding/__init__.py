"""Searching for the best output of a step function. Knows nothing of the model behind it."""
