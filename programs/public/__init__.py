"""The public face: what `import rrti_sgl as rr` offers to a notebook or a script, without an event loop of its own.

One rule for async code: what waits for models or for the store, `x`, has a twin `ax` with the same arguments, which is
awaited. Both are made of one definition (`rrti_sgl.programs.public.twins`).
"""
