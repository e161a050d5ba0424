"""Experiments: the grid of an experiment file, what is checked and planned before it, and its run into one store."""
