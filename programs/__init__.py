"""The runnable programs of the method, one module each; `rrti_sgl.programs.registry` lists them."""
