"""The commands of a chat: a row each, with its argument, its help and the function that obeys.

Those of ChatRWKV come first, then ours. A new command is a function and a row.
"""

from __future__ import annotations

import difflib

from rwkvcpp.chat.commands import adjusting, conversations, telling, writing
from rwkvcpp.chat.commands.command import Command

__all__ = ["COMMANDS", "Command", "nearest"]

_ROWS = (
    Command(name="+", run=writing.another, writes=True,
            help=("another answer to your last message", "换个回答")),
    Command(name="+reset", run=conversations.reset,
            help=("begin the conversation anew", "重置对话")),
    Command(name="+prompt", argument="[NAME|FILE]", run=conversations.prompt,
            help=("begin anew with a prompt: TOML, JSON or ChatRWKV's Python; alone, list them",
                  "以提示文件（TOML、JSON 或 ChatRWKV 的 .py）开始新对话；单独输入则列出")),
    Command(name="+gen", argument="TEXT", run=writing.go_on_with_text, writes=True,
            help=("go on with a text, outside the conversation", "续写一段文本，与对话无关")),
    Command(name="+i", argument="TEXT", run=writing.follow, writes=True,
            help=("follow an instruction, outside the conversation", "执行一条指令，与对话无关")),
    Command(name="+qq", argument="TEXT", run=writing.answer, writes=True,
            help=("answer a question, without any prompt", "回答一个问题，不带任何提示")),
    Command(name="+qa", argument="TEXT", run=writing.answer_here, writes=True,
            help=("answer a question after the prompt, as if nothing else had been said",
                  "在初始提示之后回答一个问题，不带对话历史")),
    Command(name="+++", run=writing.go_on_with_draft, writes=True,
            help=("go on with what +gen, +i, +qq or +qa wrote",
                  "继续写 +gen、+i、+qq、+qa 的内容")),
    Command(name="++", run=writing.another_draft, writes=True,
            help=("write that another way", "换个写法")),
    Command(name="+more", run=writing.more, writes=True,
            help=("go on with an answer that was cut", "继续被截断的回答")),
    Command(name="+undo", argument="[N]", run=conversations.undo,
            help=("drop the last N exchanges, one without N", "撤销最后 N 轮对话，默认一轮")),
    Command(name="+fork", argument="NAME", run=conversations.fork,
            help=("copy the conversation to NAME, and stay here",
                  "把对话复制为 NAME，仍留在当前对话")),
    Command(name="+switch", argument="[NAME]", run=conversations.switch,
            help=("go to the conversation NAME; alone, list them",
                  "切换到对话 NAME；单独输入则列出")),
    Command(name="+save", argument="NAME", run=conversations.save,
            help=("save the conversation, its memory included", "保存对话及其全部记忆")),
    Command(name="+load", argument="[NAME]", run=conversations.load,
            help=("go on with a saved conversation; alone, list them",
                  "继续已保存的对话；单独输入则列出")),
    Command(name="+state", argument="[FILE]", run=conversations.begin_with_state,
            help=("begin anew with a tuned state; alone, without one",
                  "以调优状态文件开始新对话；单独输入则不用")),
    Command(name="+system", argument="[TEXT]", run=conversations.begin_with_system, writes=True,
            help=("begin anew with a system text; alone, without one",
                  "以系统文本开始新对话；单独输入则不用")),
    Command(name="+think", argument="[on|off|MODE]", run=adjusting.think,
            help=("whether the model thinks before it answers", "回答之前是否思考")),
    Command(name="+set", argument="[KEY [VALUE]]", run=adjusting.change,
            help=("change a setting; default takes it back; alone, list them",
                  "更改设置；default 恢复默认；单独输入则列出")),
    Command(name="+profile", argument="[NAME]", run=adjusting.choose_profile,
            help=("sampling as published for a use; alone, list them",
                  "采用某种用途的采样方案；单独输入则列出")),
    Command(name="+read", argument="FILE", run=adjusting.attach,
            help=("put a text file in front of your next message", "把文本文件放在下一条消息前面")),
    Command(name="+stats", run=telling.report, help=("sizes and speeds", "大小与速度")),
    Command(name="+help", argument="[COMMAND]", run=telling.list_commands,
            help=("this list", "显示此列表")),
    Command(name="+exit", run=telling.leave, help=("leave, as Ctrl-D does", "退出，同 Ctrl-D")),
)  # fmt: skip
COMMANDS = {command.name: command for command in _ROWS}


def nearest(name: str) -> list[str]:
    """The commands that somebody may have meant."""
    words = [command for command in COMMANDS if command.strip("+")]
    return difflib.get_close_matches(name, words, n=3, cutoff=0.6)
