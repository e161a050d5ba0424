"""Token ids and text: one vocabulary for two models, and special tokens of one meaning."""
