"""What each model is shown: a template for the base model, another for the reasoning model.

The continuation is shared token for token; the prompts are not. A base model usually sees plain text, a reasoning model its
own chat template with thinking on. The paper does not publish its prompts, so these are ours: versioned templates in
`templates.toml`, and any of the user's. The rendered prompt of both models is stored with every sample.
"""

from rrti_sgl.prompts.shipped import TEMPLATES, load_template
from rrti_sgl.prompts.template import CHAT, FIELD, PromptTemplate

__all__ = ["CHAT", "FIELD", "TEMPLATES", "PromptTemplate", "load_template"]
