"""`rrti view`: a store to look at in a browser, sample by sample and token by token.

What a page shows is a payload out of the store (`explorer`, and what it stands on: `samples`, `sample`, `tree`, `tokens`,
`aggregates`), read by the page's script (`page/`, built from the TypeScript in `front/`). `app` answers a browser, `shell`
is its document, `export` writes the same payloads as a folder that needs no server, and `branching` lets a pair of models go
on from a token.
"""
