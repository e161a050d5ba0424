"""Real SGLang servers, started and stopped by us."""
