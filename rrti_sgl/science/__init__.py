"""The method's mathematics: distributions, divergences, gates and their threshold rule, calibration, planning words."""
