"""The commands of a chat: a row each, with its argument, its help and the function that obeys.

Those of ChatRWKV come first, then ours. A new command is a function and a row.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rwkvcpp import SamplingParams
from rwkvcpp.chat.conversation import Conversation, Manner
from rwkvcpp.chat.events import Event, Leave, Note, Problem, Table
from rwkvcpp.chat.prompts import find_prompt, packaged_prompts
from rwkvcpp.chat.settings import DEFAULT, KEYS
from rwkvcpp.chat.shelf import checked_name
from rwkvcpp.chat.turns import Form
from rwkvcpp.profiles import PROFILES, profile

if TYPE_CHECKING:
    from rwkvcpp.chat.chat import Chat

Options: TypeAlias = dict[str, float]  # typed with the line, for one answer
Function: TypeAlias = "Callable[[Chat, str, Options], Iterator[Event]]"

GEN_TOKENS = 256  # of a draft
MAX_FILE_BYTES = 2**24  # that +read takes
SHOWN = 40  # characters of a message in a sentence

INSTRUCTION = (
    "\nBelow is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "# Instruction:\n{}\n\n# Response:\n"
)
FORMS = {  # ChatRWKV's
    "gen": Form("\n{}"),
    "instruction": Form(INSTRUCTION, ("\n# Instruction:",)),
    "question": Form("\nQ: {}\nA:", ("\nQ:",)),
    "story": Form("{}"),
}


@dataclass(frozen=True, kw_only=True)
class Command:
    """A row: what it is called, what follows it, what it does."""

    name: str
    argument: str = ""  # as help shows it, in brackets when it may be left out; "" takes none
    help: tuple[str, str]
    run: Function
    writes: bool = False  # takes -temp=, -top_p= and \n, as messages do

    @property
    def is_needed(self) -> bool:
        """Whether it means nothing without its argument."""
        return bool(self.argument) and not self.argument.startswith("[")


def nearest(name: str) -> list[str]:
    """The commands that somebody may have meant."""
    words = [command for command in COMMANDS if command.strip("+")]
    return difflib.get_close_matches(name, words, n=3, cutoff=0.6)


# ChatRWKV's


def _another(chat: Chat, _: str, options: Options) -> Iterator[Event]:
    if not chat.conversation.exchanges:
        yield Problem(chat.words("no message"))
        return
    yield from chat.conversation.another(chat.manner(options))
    yield from chat.ending(chat.conversation)


def _reset(chat: Chat, *_: object) -> Iterator[Event]:
    yield from chat.begin(chat.conversation.opening)
    yield Note(chat.words("reset"))


def _prompt(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    if not name:
        prompts = map(find_prompt, packaged_prompts())
        yield Table(tuple((prompt.name, prompt.about) for prompt in prompts))
        return
    prompt = find_prompt(name)
    yield from chat.begin(replace(chat.conversation.opening, prompt=prompt))
    yield Note(chat.words("prompt", name=prompt.name, user=prompt.user, bot=prompt.bot))


def _gen(chat: Chat, text: str, options: Options) -> Iterator[Event]:
    return _draft(chat, FORMS["gen" if chat.has_roles else "story"], text, options)


def _instruction(chat: Chat, text: str, options: Options) -> Iterator[Event]:
    return _draft(chat, FORMS["instruction"], text, options)


def _question(chat: Chat, text: str, options: Options) -> Iterator[Event]:
    return _draft(chat, FORMS["question"], text, options)


def _draft_manner(chat: Chat, options: Options) -> Manner:
    return chat.manner(options, max_tokens=chat.settings.get("gen_tokens", GEN_TOKENS))


def _draft(chat: Chat, form: Form, text: str, options: Options) -> Iterator[Event]:
    return chat.write_draft(chat.new_draft(form), text, _draft_manner(chat, options))


def _question_here(chat: Chat, text: str, options: Options) -> Iterator[Event]:
    asked = chat.new_conversation(chat.conversation.opening)
    return chat.write_draft(asked, text, _draft_manner(chat, options))


def _go_on_with_draft(chat: Chat, _: str, options: Options) -> Iterator[Event]:
    if chat.draft is None:
        yield Problem(chat.words("no draft"))
    else:
        yield from chat.write_draft(chat.draft, "", _draft_manner(chat, options))


def _another_draft(chat: Chat, _: str, options: Options) -> Iterator[Event]:
    if chat.draft is None:
        yield Problem(chat.words("no draft"))
        return
    yield from chat.draft.another(_draft_manner(chat, options))
    yield from chat.ending(chat.draft)


# Ours


def _more(chat: Chat, _: str, options: Options) -> Iterator[Event]:
    exchanges = chat.conversation.exchanges
    if not exchanges or (chat.has_roles and exchanges[-1].ending in ("stop", "end")):
        yield Problem(chat.words("complete" if exchanges else "no message"))
        return
    yield from chat.conversation.reply("", chat.manner(options))
    yield from chat.ending(chat.conversation)


def _undo(chat: Chat, text: str, _: Options) -> Iterator[Event]:
    n = int(text or 1) if text.isdecimal() or not text else 0
    total = len(chat.conversation.exchanges)
    if not 0 < n <= total:
        yield Problem(chat.words("too few" if total else "nothing to undo", n=total))
        return
    chat.conversation.undo(n)
    if n == total:
        yield Note(chat.words("undone all", n=n))
    else:
        yield Note(chat.words("undone", n=n, total=total, last=_last(chat.conversation)))


def _save(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    path = chat.shelf.place(name)
    chat.conversation.save(path)
    size = f"{path.stat().st_size / 2**20:.1f} MiB"
    yield Note(chat.words("saved", name=name, size=size, path=path))


def _load(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    if not name:
        names = chat.shelf.names()
        rows = tuple((name, str(chat.shelf.find(name))) for name in names)
        yield Table(rows) if rows else Note(chat.words("nothing saved", folder=chat.shelf.folder))
        return
    path = chat.shelf.find(name)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loaded = Conversation.load(path, chat.model, cache=chat.cache)
    yield from (Note(str(warning.message)) for warning in told)
    chat.conversations[name] = loaded
    chat.name = name
    tokens, last = len(loaded.session.tokens), _last(loaded)
    yield Note(chat.words("loaded", name=name, tokens=tokens, last=last))


def _fork(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    if checked_name(name) in chat.conversations:
        yield Problem(chat.words("name taken", name=name))
        return
    chat.conversations[name] = chat.conversation.fork()
    yield Note(chat.words("forked", name=name))


def _switch(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    if not name:
        rows = [(("* " if name == chat.name else "  ") + name, _last(conversation))
                for name, conversation in chat.conversations.items()]  # fmt: skip
        yield Table(tuple(rows))
        return
    if name not in chat.conversations:
        names = ", ".join(chat.conversations)
        yield Problem(chat.words("no such conversation", name=name, names=names))
        return
    chat.name = name
    said = "switched" if chat.conversation.exchanges else "switched empty"
    yield Note(chat.words(said, name=name, last=_last(chat.conversation)))


def _state(chat: Chat, path: str, _: Options) -> Iterator[Event]:
    state = Path(path).expanduser() if path else None
    yield from chat.begin(replace(chat.conversation.opening, state=state))
    yield Note(chat.words("state" if path else "no state", name=path))


def _system(chat: Chat, text: str, _: Options) -> Iterator[Event]:
    if not chat.has_roles:
        yield Problem(chat.words("no roles", command="+system"))
        return
    yield from chat.begin(replace(chat.conversation.opening, system=text))
    yield Note(chat.words("system" if text else "no system"))


def _think(chat: Chat, wanted: str, _: Options) -> Iterator[Event]:
    if wanted:
        chat.think(wanted)
    mode, modes = chat.manner().mode, ", ".join(chat.template.modes)
    yield Note(chat.words("thinks", mode=mode, modes=modes))


def _set(chat: Chat, text: str, _: Options) -> Iterator[Event]:
    key, _gap, value = text.partition(" ")
    key = key.replace("-", "_")
    if not key:
        yield Table(tuple(_setting(chat, key) for key in KEYS))
    elif key in KEYS and not value.strip():
        yield Table((_setting(chat, key),))
    else:
        chat.settings.set(key, value.strip())
        yield from _after_setting(chat, key)


def _setting(chat: Chat, key: str) -> tuple[str, str]:
    return f"{key} {_as_text(chat.values()[key])}", chat.words.of(KEYS[key].help)


def _after_setting(chat: Chat, key: str) -> Iterator[Event]:
    """What else changes with a key, and the sentence about it."""
    if key == "begin_of_text":
        default = chat.conversation.opening.template.begin_of_text
        wanted = chat.settings.get(key, default)
        yield from chat.begin(replace(chat.conversation.opening, begin_of_text=wanted))
    elif key == "seed":
        chat.conversation.set_seed(chat.settings.get(key, None))
    elif key == "language":
        chat.speak(chat.settings.get(key, None))
    said = "set restart" if key == "begin_of_text" else "set"
    yield Note(chat.words(said, key=key, value=_as_text(chat.values()[key])))
    if key == "avoid_repeat" and (missing := chat.missing_punctuation()):
        yield Note(chat.words("punctuation", missing=missing))


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value) or "off"


def _profile(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    if not name:
        rows = tuple((name, profile(name).description) for name in PROFILES)
        yield Table(rows)
        return
    if name != DEFAULT:
        profile(name)  # says what there is
    chat.settings.profile_name = None if name == DEFAULT else name
    values = _sampling(chat.manner().sampling)
    yield Note(chat.words("profile", name=name, values=values))


def _sampling(params: SamplingParams) -> str:
    """The numbers that profiles differ in."""
    names = ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty",
             "penalty_decay", "order")  # fmt: skip
    return ", ".join(f"{name} {_as_text(getattr(params, name))}" for name in names)


def _stats(chat: Chat, *_: object) -> Iterator[Event]:
    conversation, cache, pace = chat.conversation, chat.cache.stats(), chat.conversation.pace
    session, words = conversation.session, chat.words
    tokens, exchanges = len(session.tokens), len(conversation.exchanges)
    yield Table((
        (words("stats model"), f"{chat.model.path.name}, RWKV-{chat.model.version}, "
                               f"{chat.model.weight_type}, {chat.model.n_threads} threads"),
        (words("stats conversation"), words("stats so far", name=chat.name, n=exchanges,
                                            tokens=tokens, size=_size(session.state.nbytes))),
        (words("stats template"), f"{chat.template.name}, {chat.manner().mode}"),
        (words("stats sampling"), f"{_sampling(chat.manner().sampling)}, seed {conversation.seed}"),
        (words("stats reading"), words("stats known", speed=_speed(pace.n_read, pace.reading),
                                       n=pace.n_known)),
        (words("stats writing"), _speed(pace.n_written, pace.writing)),
        (words("stats cache"), words("stats snapshots", n=cache.entries, size=_size(cache.nbytes),
                                     saved=cache.tokens_saved)),
    ))  # fmt: skip


def _speed(n_tokens: int, seconds: float) -> str:
    per_second = n_tokens / seconds if seconds > 0 else 0.0
    return f"{n_tokens} tokens, {per_second:.1f} tokens/s"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.1f} MiB"


def _read(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    path = Path(name).expanduser()
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        yield Problem(chat.words("too large", path=path, limit=_size(MAX_FILE_BYTES)))
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield Problem(chat.words("no text", path=path, at=error.start, byte=data[error.start]))
        return
    chat.attached = text.strip()
    if chat.attached:
        yield Note(chat.words("read", path=path, n=len(chat.attached)))
    else:
        yield Problem(chat.words("empty file", path=path))


def _help(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    if not name:
        yield Table(tuple(_row(chat, command) for command in COMMANDS.values()))
        return
    name = name if name.startswith("+") else "+" + name
    command = COMMANDS.get(name.lower())
    if command is None:
        names = ", ".join(nearest(name))
        hint = chat.words("nearest", names=names) if names else ""
        yield Problem(chat.words("unknown", command=name, nearest=hint))
    else:
        yield Table((_row(chat, command),))


def _row(chat: Chat, command: Command) -> tuple[str, str]:
    return f"{command.name} {command.argument}".rstrip(), chat.words.of(command.help)


def _exit(*_: object) -> Iterator[Event]:
    yield Leave()


def _last(conversation: Conversation) -> str:
    """The last message, short enough for a sentence."""
    messages = [exchange.message for exchange in conversation.exchanges if exchange.message]
    text = " ".join(messages[-1].split()) if messages else ""
    return f"“{text[:SHOWN]}…”" if len(text) > SHOWN else f"“{text}”" if text else "…"


_ROWS = (
    Command(name="+", run=_another, writes=True, argument="",
            help=("another answer to your last message", "换个回答")),
    Command(name="+reset", run=_reset, help=("begin the conversation anew", "重置对话")),
    Command(name="+prompt", argument="[NAME|FILE]", run=_prompt,
            help=("begin anew with a prompt: TOML, JSON or ChatRWKV's Python; alone, list them",
                  "以提示文件（TOML、JSON 或 ChatRWKV 的 .py）开始新对话；单独输入则列出")),
    Command(name="+gen", argument="TEXT", run=_gen, writes=True,
            help=("go on with a text, outside the conversation", "续写一段文本，与对话无关")),
    Command(name="+i", argument="TEXT", run=_instruction, writes=True,
            help=("follow an instruction, outside the conversation", "执行一条指令，与对话无关")),
    Command(name="+qq", argument="TEXT", run=_question, writes=True,
            help=("answer a question, without any prompt", "回答一个问题，不带任何提示")),
    Command(name="+qa", argument="TEXT", run=_question_here, writes=True,
            help=("answer a question after the prompt, as if nothing else had been said",
                  "在初始提示之后回答一个问题，不带对话历史")),
    Command(name="+++", run=_go_on_with_draft, writes=True,
            help=("go on with what +gen, +i, +qq or +qa wrote",
                  "继续写 +gen、+i、+qq、+qa 的内容")),
    Command(name="++", run=_another_draft, writes=True,
            help=("write that another way", "换个写法")),
    Command(name="+more", run=_more, writes=True,
            help=("go on with an answer that was cut", "继续被截断的回答")),
    Command(name="+undo", argument="[N]", run=_undo,
            help=("drop the last N exchanges, one without N", "撤销最后 N 轮对话，默认一轮")),
    Command(name="+fork", argument="NAME", run=_fork,
            help=("copy the conversation to NAME, and stay here",
                  "把对话复制为 NAME，仍留在当前对话")),
    Command(name="+switch", argument="[NAME]", run=_switch,
            help=("go to the conversation NAME; alone, list them",
                  "切换到对话 NAME；单独输入则列出")),
    Command(name="+save", argument="NAME", run=_save,
            help=("save the conversation, its memory included", "保存对话及其全部记忆")),
    Command(name="+load", argument="[NAME]", run=_load,
            help=("go on with a saved conversation; alone, list them",
                  "继续已保存的对话；单独输入则列出")),
    Command(name="+state", argument="[FILE]", run=_state,
            help=("begin anew with a tuned state; alone, without one",
                  "以调优状态文件开始新对话；单独输入则不用")),
    Command(name="+system", argument="[TEXT]", run=_system, writes=True,
            help=("begin anew with a system text; alone, without one",
                  "以系统文本开始新对话；单独输入则不用")),
    Command(name="+think", argument="[on|off|MODE]", run=_think,
            help=("whether the model thinks before it answers", "回答之前是否思考")),
    Command(name="+set", argument="[KEY [VALUE]]", run=_set,
            help=("change a setting; default takes it back; alone, list them",
                  "更改设置；default 恢复默认；单独输入则列出")),
    Command(name="+profile", argument="[NAME]", run=_profile,
            help=("sampling as published for a use; alone, list them",
                  "采用某种用途的采样方案；单独输入则列出")),
    Command(name="+read", argument="FILE", run=_read,
            help=("put a text file in front of your next message", "把文本文件放在下一条消息前面")),
    Command(name="+stats", run=_stats, help=("sizes and speeds", "大小与速度")),
    Command(name="+help", argument="[COMMAND]", run=_help, help=("this list", "显示此列表")),
    Command(name="+exit", run=_exit, help=("leave, as Ctrl-D does", "退出，同 Ctrl-D")),
)  # fmt: skip
COMMANDS = {command.name: command for command in _ROWS}
