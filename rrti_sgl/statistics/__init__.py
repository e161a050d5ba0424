"""Estimates and their intervals over problems, ranks and curves: arrays in, arrays out."""
