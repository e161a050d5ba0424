"""How the bundled pair is made: corpus, training, measurement and its card. `make pair` runs it."""
