"""Inputs that nobody would type and files that somebody damaged, and what takes them."""
