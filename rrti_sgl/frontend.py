"""SGLang's frontend language under intervention: a door of the public face to `rrti_sgl.programs.frontend`."""

from rrti_sgl.programs.frontend import InterventionBackend

__all__ = ["InterventionBackend"]
