"""The machinery that runs a program: settings, what is checked first, the run itself, and continuing it."""
