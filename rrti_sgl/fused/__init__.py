"""Both models in one SGLang server: the base model drafts, the reasoning model scores, the gate accepts.

An out-of-tree speculative algorithm of SGLang, registered by its plugin entry point under `ALGORITHM`. Such a server *is*
the guided model: every interface of SGLang's own (OpenAI endpoint, streams, chat templates, routers) answers for it.

State between rounds: the first L tokens of a sequence have keys and values in both models, and the token at L is known
and has none. The base model is fed it and then its own draws, and gives n distributions; the reasoning model is fed the
same n tokens in one forward pass and gives n distributions at the same positions. The gate keeps m of the n tokens, of
which only the last can differ from the draft, and that one has no keys and values yet. So nothing is rolled back, there
is no bonus token, and every emitted token was gated.

`protocol` is what both ends know, `guidance` what a request asks and what is remembered of it, `scoring` and `drawing`
the arithmetic, `acceptance` the gate over a batch, `base_side` the base model's sequences, `tracing` what is told of
each token, `worker` the rounds, `admission` what is refused, `places` all that touches SGLang beyond its official door.
"""

ALGORITHM = "RRTI"
"""Name of the algorithm in SGLang's `--speculative-algorithm`."""
