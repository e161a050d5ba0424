"""A pair of natural language: SmolLM2-135M-Instruct as it is, and after it was taught to reason. `make natural` runs it."""
