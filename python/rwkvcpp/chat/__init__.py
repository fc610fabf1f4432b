"""Chat without a terminal: conversations, commands, prompt files and the words for them.

>>> from rwkvcpp.chat import Chat, Said
>>> chat = Chat(rwkvcpp.Model())
>>> for event in chat.answer("The Fox and the Crow"):
...     if isinstance(event, Said):
...         print(event.text, end="")
"""

from rwkvcpp.chat.chat import Chat, Wishes
from rwkvcpp.chat.commands import COMMANDS, Command
from rwkvcpp.chat.conversation import Conversation, Exchange, Manner, Opening
from rwkvcpp.chat.events import (
    Event,
    Leave,
    Note,
    Problem,
    Reading,
    Said,
    Silent,
    Speaking,
    Table,
    Thought,
)
from rwkvcpp.chat.habits import Habits
from rwkvcpp.chat.line import Line, read_line
from rwkvcpp.chat.prompts import PromptFile, find_prompt, packaged_prompts, read_prompt
from rwkvcpp.chat.settings import KEYS, Settings
from rwkvcpp.chat.shelf import Shelf, users_folder
from rwkvcpp.chat.texts import LANGUAGES, Words, users_language

__all__ = [
    "COMMANDS",
    "KEYS",
    "LANGUAGES",
    "Chat",
    "Command",
    "Conversation",
    "Event",
    "Exchange",
    "Habits",
    "Leave",
    "Line",
    "Manner",
    "Note",
    "Opening",
    "Problem",
    "PromptFile",
    "Reading",
    "Said",
    "Settings",
    "Shelf",
    "Silent",
    "Speaking",
    "Table",
    "Thought",
    "Wishes",
    "Words",
    "find_prompt",
    "packaged_prompts",
    "read_line",
    "read_prompt",
    "users_folder",
    "users_language",
]
