"""Chat templates: messages to the text that a model was trained on, and replies taken apart.

>>> from rwkvcpp.templates import choose_template
>>> choose_template("world").render([{"role": "user", "content": "Hi"}])
'User: Hi\\n\\nAssistant:'
"""

from rwkvcpp.templates.choice import choose_template, jinja_for_others, named_template
from rwkvcpp.templates.formats import TEMPLATES
from rwkvcpp.templates.hugging_face import apply_chat_template
from rwkvcpp.templates.messages import ToolCall
from rwkvcpp.templates.reply import Delta, Reply, ReplyStream
from rwkvcpp.templates.template import Mode, Template

__all__ = [
    "TEMPLATES",
    "Delta",
    "Mode",
    "Reply",
    "ReplyStream",
    "Template",
    "ToolCall",
    "apply_chat_template",
    "choose_template",
    "jinja_for_others",
    "named_template",
]
