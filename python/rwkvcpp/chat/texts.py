"""The program's own sentences, in every language that it speaks."""

from __future__ import annotations

import os

LANGUAGES = ("en", "zh")

# name -> sentence in each of LANGUAGES; {} are filled in by whoever says it.
TEXTS: dict[str, tuple[str, str]] = {
    "roles": (
        "{model} (RWKV-{version}), template {template}. Type a message; +help lists the commands.",
        "{model}（RWKV-{version}），模板 {template}。直接输入消息即可对话，+help 列出所有命令。",
    ),
    "story": (
        "{model} tells stories: type a title or a first sentence, and it goes on. An empty line "
        "goes on with the story, +reset begins another, +help lists the commands.",
        "{model} 会讲故事（只懂英文）：输入一个标题或第一句话，它就接着写。"
        "空行表示继续写，+reset 开始新故事，+help 列出所有命令。",
    ),
    "real model": (
        "It is small and knows nothing else; -m FILE names a model to talk with.",
        "它很小，别的什么也不懂；用 -m 文件 指定一个可以对话的模型。",
    ),
    "reset": ("Chat reset.", "对话已重置。"),
    "prompt": (
        "Prompt {name} set up: a new conversation begins, {user} talks with {bot}.",
        "提示 {name} 已载入：新对话开始，{user} 与 {bot} 对话。",
    ),
    "no message": (
        "There is no message yet that could be answered another way.",
        "还没有可以换个回答的消息。",
    ),
    "no draft": (
        "There is no text yet to go on with: +gen TEXT begins one.",
        "还没有可以续写的文本，请先用 +gen 文本 开始。",
    ),
    "complete": (
        "There is nothing to go on with: the last answer is complete; + gives another.",
        "上一个回答已经完整，没有可以继续的内容；+ 可以换个回答。",
    ),
    "stopped": ("(stopped)", "（已停止）"),
    "unread": (
        "(stopped: the message was not read, and the conversation is as it was)",
        "（已停止：消息未被读入，对话保持原样）",
    ),
    "cut": (
        "(cut after {n} tokens; +more goes on, +set max_tokens N allows more)",
        "（到 {n} 个 token 为止；+more 继续，+set max_tokens N 可放宽）",
    ),
    "end": ("(the end)", "（完）"),
    "ended": ("(the end; the next message begins another text)", "（完；下一条消息开始新的文本）"),
    "unknown": (
        "There is no command {command}.{nearest} +help lists them all; begin with a space to send "
        "it as text.",
        "没有命令 {command}。{nearest}+help 列出所有命令；以空格开头则作为普通文本发送。",
    ),
    "nearest": (" Did you mean {names}?", "是不是想输入 {names}？"),
    "takes nothing": ("{command} takes nothing behind it.", "{command} 后面不需要参数。"),
    "needs": (
        "{command} needs {argument} behind it: {help}.",
        "{command} 后面需要 {argument}：{help}。",
    ),
    "saved": ("Saved as {name} ({size}): {path}", "已保存为 {name}（{size}）：{path}"),
    "loaded": (
        "Loaded {name}, {tokens} tokens; it ends with {last}.",
        "已载入 {name}，共 {tokens} 个 token；以 {last} 结尾。",
    ),
    "nothing saved": ("Nothing is saved in {folder} yet.", "{folder} 中还没有保存的对话。"),
    "undone": (
        "Dropped {n} of {total}; the conversation ends with {last} now.",
        "已撤销 {total} 轮中的 {n} 轮；现在以 {last} 结尾。",
    ),
    "undone all": (
        "Dropped all that was said; the conversation is at its beginning.",
        "已撤销全部内容；对话回到开头。",
    ),
    "nothing to undo": ("There is nothing to undo.", "没有可以撤销的内容。"),
    "too few": (
        "Nothing was dropped: +undo takes a number from 1 to {n}.",
        "没有撤销任何内容：+undo 后面是 1 到 {n} 的数字。",
    ),
    "forked": (
        "{name} is a copy of this conversation now; +switch {name} goes there.",
        "{name} 是当前对话的副本；+switch {name} 切换过去。",
    ),
    "name taken": (
        "There is a conversation {name} already; choose another name, or +switch to it.",
        "已经有名为 {name} 的对话，请换个名字，或用 +switch 切换过去。",
    ),
    "switched": (
        "This is {name}; it ends with {last}.",
        "现在是 {name}，以 {last} 结尾。",
    ),
    "switched empty": ("This is {name}: nothing was said yet.", "现在是 {name}：还没有对话。"),
    "no such conversation": (
        "There is no conversation {name}, only {names}.",
        "没有名为 {name} 的对话，只有 {names}。",
    ),
    "state": (
        "A new conversation begins with the tuned state {name}.",
        "以调优状态 {name} 开始新对话。",
    ),
    "no state": ("A new conversation begins without a tuned state.", "不用调优状态，开始新对话。"),
    "system": (
        "A new conversation begins with this system text.",
        "以这段系统文本开始新对话。",
    ),
    "no system": ("A new conversation begins without a system text.", "不用系统文本，开始新对话。"),
    "no roles": (
        "This model only goes on with texts, so {command} has no meaning here.",
        "这个模型只会续写文本，{command} 在这里没有意义。",
    ),
    "thinks": (
        "Answers are written in the mode {mode} from now on; there are {modes}.",
        "从现在起以 {mode} 模式回答；可用模式：{modes}。",
    ),
    "no thoughts": (
        "The template {template} has no thoughts to switch; its modes are {modes}.",
        "模板 {template} 没有思考模式可切换；可用模式：{modes}。",
    ),
    "set": ("{key} is {value} now.", "{key} 现在是 {value}。"),
    "set restart": (
        "{key} is {value} now, from the beginning on: a new conversation begins.",
        "{key} 现在是 {value}；它从开头起作用，因此开始新对话。",
    ),
    "profile": (
        "Sampling as in the profile {name}: {values}.",
        "采样采用 {name} 方案：{values}。",
    ),
    "punctuation": (
        "This vocabulary has no single token for {missing}, so that may be repeated.",
        "词表中没有 {missing} 的单独 token，因此无法避免它重复。",
    ),
    "read": (
        "{path} goes with your next message: {n} characters.",
        "{path} 将随下一条消息一起发送：{n} 个字符。",
    ),
    "no text": (
        "{path} is no text: byte {at} is {byte:#x}, and not UTF-8.",
        "{path} 不是文本：第 {at} 字节为 {byte:#x}，不是 UTF-8。",
    ),
    "empty file": ("{path} is empty.", "{path} 是空文件。"),
    "too large": ("{path} is larger than {limit}.", "{path} 超过 {limit}。"),
    "stats model": ("model", "模型"),
    "stats conversation": ("conversation", "对话"),
    "stats so far": (
        "{name}: messages {n}, tokens {tokens}, a state of {size}",
        "{name}：{n} 条消息，{tokens} 个 token，状态 {size}",
    ),
    "stats template": ("template", "模板"),
    "stats sampling": ("sampling", "采样"),
    "stats reading": ("reading", "读入"),
    "stats known": ("{speed}; {n} were known", "{speed}；其中 {n} 个已有缓存"),
    "stats writing": ("writing", "写出"),
    "stats cache": ("cache", "缓存"),
    "stats snapshots": (
        "{n} snapshots, {size}; {saved} tokens saved",
        "{n} 个快照，{size}；省去 {saved} 个 token",
    ),
    "leave": ("Ctrl-D or +exit leaves.", "按 Ctrl-D 或输入 +exit 退出。"),
    "loading": ("loading", "载入中"),
    "reading": ("reading {done} of {total} tokens", "正在读入 {done}/{total} 个 token"),
    "no history": (
        "What you type is not remembered for next time: {reason}.",
        "输入历史不会被保存：{reason}。",
    ),
}


class Words:
    """Says the sentences of TEXTS in one language.

    >>> Words("en")("reset")
    'Chat reset.'
    """

    def __init__(self, language: str) -> None:
        """The words of `language`, one of LANGUAGES."""
        if language not in LANGUAGES:
            raise ValueError(f"language is {language!r}, expected one of {', '.join(LANGUAGES)}")
        self.language = language
        self._column = LANGUAGES.index(language)

    def __call__(self, name: str, /, **values: object) -> str:
        return self.of(TEXTS[name]).format(**values)

    def of(self, row: tuple[str, str]) -> str:
        """The sentence of a row with one for each language."""
        return row[self._column]


def users_language() -> str:
    """What the environment asks for, English if it is none of LANGUAGES."""
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(variable)
        if value:
            return value[:2].lower() if value[:2].lower() in LANGUAGES else "en"
    return "en"
