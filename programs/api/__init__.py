"""An OpenAI-compatible endpoint over the session: completions, chats and models, each program under a name.

`rrti api` serves it over servers that run, `rrti serve --api` over servers that it starts. A request is read and refused by
name (`fields`, `naming`), becomes prompts of both models (`prompts`) and samples of the session (`samples`), and its events
become answers (`answers`). `admission` bounds what is in flight, `recording` keeps traces, `metrics` counts.
"""
