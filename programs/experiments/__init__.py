"""Experiment files: what one TOML file says of models, servers, programs, problem sets and sampling.

Reading a file finds everything in it that is wrong by itself, with line numbers, all at once. What depends on tokenizers,
problems and GPUs is checked in `rrti_sgl.programs.experiments.preflight`. The shipped experiments lie beside this module.
"""
