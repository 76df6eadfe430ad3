"""Trains the weights that the pocket checkpoint ships with: hours on two cores, once."""
