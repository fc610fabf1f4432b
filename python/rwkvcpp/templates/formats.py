"""The formats that RWKV models were trained on, a row each: a new one is a new row."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from rwkvcpp.templates.cleaning import AS_IT_IS, HUGGING_FACE
from rwkvcpp.templates.template import Mode
from rwkvcpp.templates.tools import HEADINGS
from rwkvcpp.templates.turns import Turns


def by_name(*modes: Mode) -> MappingProxyType[str, Mode]:
    """Modes as a format has them."""
    return MappingProxyType({mode.name: mode for mode in modes})


PLAIN = Mode("chat")
CALL = Mode("call", " ```json", profile="tools")  # what follows can only be a call

WORLD = Turns(
    name="world",
    description="User: …, Assistant: …, parted by blank lines: all World models",
    stops=("\n\nUser:", "\n\nSystem:"),
    modes=by_name(PLAIN, CALL),
    default_mode="chat",
    user="User",
    assistant="Assistant",
    system="System",
)

# The tags stay open: the model chooses the token that the `>` is in.
FAKE_THINK = Mode("fake-think", " <think></think", profile="fake-think")
THINK = Mode("think", " <think", profile="open-think")
LENGTHS = (
    Mode("think-a-bit", " <think", " (think a bit)", profile="open-think"),
    Mode("think-medium", " <think", " (think)", profile="open-think"),
    Mode("think-a-lot", " <think", " (think a lot)", profile="open-think"),
)
# Models between 2025-09-22 and G1c know the same words without parentheses.
BARE_LENGTHS = tuple(replace(m, hint=m.hint.replace("(", "").replace(")", "")) for m in LENGTHS)
CHINESE = Mode("think-zh", " <think>好的", profile="open-think")
EARLY_CHINESE = Mode("think-zh", " <think>嗯", profile="open-think")  # until 2025-09-21

G1 = replace(
    WORLD,
    name="g1",
    description="World with thoughts: G1c and newer",
    modes=by_name(FAKE_THINK, THINK, *LENGTHS, CHINESE, PLAIN, CALL),
    default_mode="fake-think",
)
G1B = replace(
    G1,
    name="g1b",
    description="World with thoughts: weights from 2025-09-22 until G1b",
    modes=by_name(FAKE_THINK, THINK, *BARE_LENGTHS, CHINESE, PLAIN, CALL),
)
G1A = replace(
    G1,
    name="g1a",
    description="World with thoughts: weights before 2025-09-22",
    modes=by_name(FAKE_THINK, THINK, EARLY_CHINESE, PLAIN, CALL),
)

# How models were trained to call functions. They would go on with the result themselves.
FUNCTIONS = Turns(
    name="functions",
    description="### User, ### Assistant: functions that may be called",
    stops=("\n### User", "\n### Tool Output", "\nUser:"),
    modes=by_name(
        Mode("think", "\n<think", profile="tools"),
        Mode("fake-think", "\n<think></think", profile="tools"),
        replace(PLAIN, profile="tools"),
    ),
    default_mode="think",
    before="### ",
    mark="",
    gap="\n",
    between="\n",
    tool="Tool Output",
    tool_form=HEADINGS,
    cleaning=HUGGING_FACE,
    closed_up=frozenset({"user"}),
)

BOT = Turns(
    name="bot",
    description="User✿…✿, Bot✿…✿: G1h and newer, on request",
    stops=("✿",),
    modes=by_name(
        Mode("think", "<think", profile="open-think"),
        Mode("fake-think", "<think></think", profile="fake-think"),
        PLAIN,
    ),
    default_mode="think",
    user="User",
    assistant="Bot",
    system="System",
    mark="✿",
    gap="",
    after="✿",
    between="\n",
    cleaning=HUGGING_FACE,
    closed_up=frozenset({"user"}),
    tools_template=FUNCTIONS,
)

# Models of the Pile end a reply with a blank line, so their replies have none inside.
RAVEN = Turns(
    name="raven",
    description="Bob: …, Alice: …: Raven and other models of the 20B vocabulary",
    stops=("\n\n",),
    modes=by_name(PLAIN),
    default_mode="chat",
    user="Bob",
    assistant="Alice",
    system="",
    closed_up=frozenset({"user", "assistant", "tool"}),
)

QUESTION = replace(
    WORLD,
    name="question",
    description="Question: …, Answer: …, behind the material that they are about",
    stops=("\n\nQuestion:",),
    modes=by_name(PLAIN),
    user="Question",
    assistant="Answer",
    system="",
)
QA = replace(
    QUESTION,
    name="qa",
    description="Q: …, A: …",
    stops=("\n\nQ:",),
    user="Q",
    assistant="A",
)

PLAIN_TEXT = Turns(
    name="plain",
    description="no roles: the text goes on",
    begin_of_text=False,
    stops=(),
    modes=by_name(PLAIN),
    default_mode="chat",
    user="",
    assistant="",
    system="",
    mark="",
    gap="",
    between="",
    cleaning=AS_IT_IS,
    closed_up=frozenset(),
)
STORIES = replace(
    PLAIN_TEXT,
    name="stories",
    description="no roles, and token 0 in front: the bundled model",
    begin_of_text=True,
)

INSTRUCT = replace(
    QUESTION,
    name="instruct",
    description="Instruction: …, Response: …",
    stops=("\n\nInstruction:",),
    user="Instruction",
    assistant="Response",
)

FORMATS = (WORLD, G1, G1B, G1A, BOT, FUNCTIONS, RAVEN, QUESTION, QA, INSTRUCT, PLAIN_TEXT, STORIES)
TEMPLATES = MappingProxyType({template.name: template for template in FORMATS})
