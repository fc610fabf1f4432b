"""Chat without a terminal: conversations, commands, prompt files and the words for them."""

from rwkvcpp.chat.line import Line, read_line
from rwkvcpp.chat.prompts import PromptFile, find_prompt, packaged_prompts, read_prompt

__all__ = ["Line", "PromptFile", "find_prompt", "packaged_prompts", "read_line", "read_prompt"]
