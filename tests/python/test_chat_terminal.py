"""rwkvcpp chat in a terminal of its own, as somebody in front of it sees it.

The program runs in a pseudo-terminal; pyte is the terminal and keeps the screen.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rwkvcpp.chat import COMMANDS, Words
from tests.data import tuned_goldens

pexpect = pytest.importorskip("pexpect")
pyte = pytest.importorskip("pyte")

SECONDS = 30.0  # for anything to happen; the machine may be busy
CTRL_C, CTRL_D, UP, ALT_ENTER = "\x03", "\x04", "\x1b[A", "\x1b\r"
ENDLESS = ["--template", "world", "--banned-tokens", "0", "--max-tokens", "1000000"]

# A model that takes its time, for what happens meanwhile.
SLOW = """
import sys, time
from rwkvcpp.cli import chat_terminal, main, model_options

def slowly(args, progress):
    for step in range(int({seconds} * 20)):
        time.sleep(0.05)
        progress(step, int({seconds} * 20))
    return model_options.make_model(args, progress=progress)

chat_terminal.make_model = slowly
sys.exit(main(["chat", *sys.argv[1:]]))
"""

# A disk that takes no byte more.
FULL = """
import resource, sys
from rwkvcpp.cli import main

resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
sys.exit(main(["chat", *sys.argv[1:]]))
"""


class Terminal:
    """A terminal with the program in it."""

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        *,
        columns: int = 80,
        rows: int = 600,
        program: str | None = None,
        cwd: Path | None = None,
    ) -> None:
        command = ["-m", "rwkvcpp", "chat"] if program is None else ["-c", program]
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.child = pexpect.spawn(
            sys.executable,
            [*command, *arguments],
            env=environment,
            dimensions=(rows, columns),
            cwd=cwd,
        )
        self.screen.write_process_input = self.child.send  # answers to "where is the cursor?"

    @property
    def lines(self) -> list[str]:
        """What stands on the screen, down to where the cursor is and a little further."""
        return [self._line(y).rstrip() for y in range(self.screen.cursor.y + 10)]

    @property
    def text(self) -> str:
        return "\n".join(self.lines).rstrip()

    def look(self, seconds: float = 0.05) -> None:
        """Take in what the program has written."""
        with suppress(pexpect.TIMEOUT):
            self._stream.feed(self.child.read_nonblocking(2**16, timeout=seconds))

    def wait(self, is_there: Callable[[], bool]) -> None:
        """Look until something is there."""
        end = time.monotonic() + SECONDS
        while not is_there():
            assert time.monotonic() < end, f"it did not come:\n{self.text}"
            self.look()

    def wait_for(self, text: str) -> None:
        self.wait(lambda: text in " ".join(self.text.split()))

    def wait_for_line(self) -> None:
        """Until there is an empty input line."""
        self.wait(self._is_at_empty_line)

    def _is_at_empty_line(self) -> bool:
        cursor = self.screen.cursor
        line = self._line(cursor.y)
        return line[: cursor.x].endswith("> ") and not line[cursor.x :].strip()

    def _line(self, y: int) -> str:
        row = self.screen.buffer[y]
        return "".join(row[x].data for x in range(self.screen.columns))

    def type(self, line: str) -> str:
        """What the screen shows for a line, until the next one can be typed."""
        self.wait_for_line()
        start = self.screen.cursor.y
        self.child.send(line + "\r")
        # Both at once: while it draws, the cursor visits the lines below and comes back.
        self.wait(lambda: self.screen.cursor.y > start and self._is_at_empty_line())
        return "\n".join(self.lines[start : self.screen.cursor.y])

    def leave(self, keys: str = CTRL_D) -> int:
        """Send the last keys; the exit code."""
        self.child.send(keys)
        return self.ended()

    def ended(self) -> int:
        """The exit code, when the program has ended."""
        try:
            while True:
                self._stream.feed(self.child.read_nonblocking(2**16, timeout=SECONDS))
        except pexpect.EOF:
            pass
        self.child.close()
        status = self.child.exitstatus
        return -self.child.signalstatus if status is None else status


Start = Callable[..., Terminal]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    return {**kept, "XDG_DATA_HOME": str(tmp_path / "data"), "TERM": "xterm", "LANG": "C.UTF-8"}


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Start]:
    """Starts programs, and ends what is left of them."""
    terminals = []

    def begin(*arguments: str, **more: object) -> Terminal:
        more = {"environment": environment, **more}
        terminals.append(Terminal(list(arguments), **more))
        return terminals[-1]

    yield begin
    for terminal in terminals:
        if not terminal.child.closed:
            terminal.child.close(force=True)


def shown(text: str) -> str:
    """Text without the line ends of a narrow screen."""
    return " ".join(text.split())


# A conversation


def test_a_session_walks_through_every_command(start, tmp_path):
    prompt, text = tmp_path / "prompt.py", tmp_path / "text.txt"
    prompt.write_text('user = "Ann"\nbot = "Ben"\ninit_prompt = "They talk."\n')
    text.write_text("The sky is green.")
    state = tuned_goldens.path("7")
    terminal = start("--template", "g1", "--max-tokens", "8", "--seed", "1",
                     "--sessions", str(tmp_path / "saved"))  # fmt: skip
    walk: list[tuple[str, str]] = [
        ("Hello!", "Assistant: "),
        ("+", "Assistant: "),
        ("+more", "Assistant: "),
        ("Why? -temp=0 -top_p=0.5", "Assistant: "),
        ("+undo", "Dropped 1 of 3; the conversation ends with “Hello!” now."),
        ("+undo 2", "Dropped all that was said"),
        ("+reset", "Chat reset."),
        ("+prompt", "english-friends English: Bob talks with his friend Alice"),
        (f"+prompt {prompt}", "a new conversation begins, Ann talks with Ben."),
        ("Who are you?", "Ben: "),
        ("+set gen_tokens 8", "gen_tokens is 8 now."),
        ("+gen Once upon a time", "Once upon a time"),
        ("+++", "+++"),
        ("++", "++"),
        ("+i Sing.", "+i Sing."),
        ("+qq Why?", "+qq Why?"),
        ("+qa Why?", "Ben: "),
        ("+fork aside", "aside is a copy of this conversation now"),
        ("+switch aside", "This is aside; it ends with “Who are you?”."),
        ("+switch", "main “Who are you?”"),
        ("+save evening", "Saved as evening (0.4 MiB)"),
        ("+load", "evening"),
        ("+load evening", "Loaded evening"),
        (f"+state {state}", "tuned-rwkv7.pth"),
        ("+system Be brief.", "A new conversation begins with this system text."),
        ("+think on", "Answers are written in the mode think from now on"),
        ("And now?", "Ben: "),
        ("+set", "temperature 0.96"),
        ("+profile", "open-think"),
        ("+profile chat-creative", "Sampling as in the profile chat-creative"),
        (f"+read {text}", "17 characters."),
        ("What is green?", "Ben: "),
        ("+stats", "conversation"),
        ("+help", "+exit"),
        ("+help undo", "drop the last N exchanges"),
        ("+resett", "There is no command +resett. Did you mean +reset"),
        (" +1", "Ben: "),
    ]
    terminal.wait_for("+help lists the commands.")
    for line, expected in walk:
        assert expected in shown(terminal.type(line)), line
    assert terminal.leave("+exit\r") == 0
    walked = {line.split()[0] for line, _ in walk if line.startswith("+")} | {"+exit"}
    assert COMMANDS.keys() <= walked
    assert "Traceback" not in terminal.text


def guide_commands(guide: str) -> list[str]:
    """The commands that the guide's own list names, as it writes them."""
    listed = guide.partition("指南- ")[2]
    return re.findall(r"\+{2,3}|\+[a-z]+|\+(?= )", listed)


def test_the_guide_to_chatrwkv_can_be_followed(start, shared, tmp_path):
    (path,) = (shared / "guides").glob("004*")
    guide = path.read_text()
    options = re.findall(r"^- (-[a-z_]+=)", guide, flags=re.M)
    named = guide_commands(guide)
    assert {"+", "+reset", "+prompt", "+gen", "+i", "+qq", "+qa", "+++", "++"} <= set(named)
    assert options == ["-temp=", "-top_p="]
    prompt = tmp_path / "English-2.py"
    prompt.write_text(
        'user = "Bob"\nbot = "Alice"\ninterface = ":"\n'
        "init_prompt = f'''\n{user}{interface} Hello {bot}.\n\n{bot}{interface} Hi {user}.\n'''\n"
    )
    terminal = start("--template", "raven", "--max-tokens", "8", "--seed", "1")
    terminal.wait_for("+help lists the commands.")
    terminal.type("+set gen_tokens 8")
    words = {"+prompt": str(prompt), "+gen": r"Once\nupon", "+i": "Sing.", "+qq": "Why?",
             "+qa": "How?"}  # fmt: skip
    assert "Alice: " in terminal.type("Hello, who are you?")
    for command in named:
        line = f"{command} {words.get(command, '')}".rstrip()
        found = terminal.type(line)
        assert "There is" not in shown(found), line
        assert len(found.splitlines()) > 1, line
    for option in options:
        for value in ("0", "1.0", "0.85"):
            found = terminal.type(f"+gen Once {option}{value} upon")
            assert "expected" not in found
    assert terminal.leave() == 0


def test_the_recorded_session_is_what_happens(start, tmp_path):
    page = Path(__file__).parents[2] / "docs" / "chat.md"
    (block,) = re.findall(r"^```text\n(.*?)^```$", page.read_text(), flags=re.M | re.S)
    command, _, session = block.partition("\n")
    typed = re.findall(r"^(?:\w+)?> ?(.*)$", session, flags=re.M)
    terminal = start(*command.split()[3:], cwd=tmp_path)
    terminal.wait_for("a model to talk with.")
    for line in typed[:-1]:
        terminal.type(line)
    assert terminal.text == session.removesuffix(typed[-1] + "\n").rstrip()
    assert terminal.leave(typed[-1] + "\r") == 0


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(start):
    terminal = start(*ENDLESS, "--seed", "1")
    terminal.wait_for("+help lists the commands.")
    terminal.wait_for_line()
    terminal.child.send("Hello!\r")
    terminal.wait_for("Assistant: ")
    terminal.wait(lambda: len(terminal.text) > 600)
    terminal.child.send(CTRL_C)
    terminal.wait_for("(stopped)")
    terminal.type("+set max_tokens 5")
    assert "Assistant: " in terminal.type("And?")
    assert "messages 2," in shown(terminal.type("+stats"))
    assert terminal.leave() == 0


def test_at_the_input_line_ctrl_c_drops_what_was_typed(start):
    terminal = start("--max-tokens", "5")
    terminal.wait_for_line()
    terminal.child.send("something" + CTRL_C)
    terminal.wait_for("Ctrl-D or +exit leaves.")
    terminal.wait_for_line()
    assert terminal.leave() == 0


def test_a_message_may_have_several_lines_and_is_remembered(start):
    terminal = start("--template", "world", "--max-tokens", "5")
    terminal.wait_for_line()
    assert "Assistant: " in terminal.type(f"one{ALT_ENTER}two")
    assert "+undo" in terminal.type("+undo")
    terminal.leave()
    again = start("--template", "world", "--max-tokens", "5")
    again.wait_for_line()
    again.child.send(UP + UP)
    again.wait_for("> one two")
    again.child.send("\r")
    again.wait_for("Assistant: ")
    again.wait_for_line()
    assert "ends with “one two”" in again.type("+fork a") + again.type("+switch a")
    assert again.leave() == 0


def test_tab_completes_commands(start):
    terminal = start("--max-tokens", "5")
    terminal.wait_for_line()
    terminal.child.send("+res\t")
    terminal.wait_for("> +reset")
    assert terminal.leave("\r" + CTRL_D) == 0
    assert "Chat reset." in terminal.text


def test_a_pasted_megabyte_is_one_message_that_can_be_stopped(start):
    terminal = start("--template", "world", "--max-tokens", "5")
    terminal.wait_for("+help lists the commands.")
    terminal.wait_for_line()
    terminal.child.send("\x1b[200~" + "word word\r\n" * 100_000 + "\x1b[201~")
    terminal.wait_for("[paste 1: 1000000 characters]")
    terminal.child.send("\r")
    terminal.wait_for("tokens")
    terminal.child.send(CTRL_C)
    terminal.wait_for(Words("en")("unread"))
    assert "messages 0" in shown(terminal.type("+stats"))
    assert terminal.leave() == 0


def test_what_would_steer_the_terminal_is_not_sent_to_it(start):
    escape = str(0x1B + 1)  # the byte's token; likelier than all others
    terminal = start("--template", "world", "--max-tokens", "3", "--logit-bias", f"{escape}=1000")
    terminal.wait_for_line()
    assert "Assistant: \ufffd\ufffd\ufffd" in terminal.type("Hello!")
    assert terminal.leave() == 0


# Terminals


def test_twenty_columns_are_enough(start):
    terminal = start("--template", "world", "--max-tokens", "8", columns=20)
    terminal.wait_for("lists the commands.")
    found = terminal.type("+help")
    assert "leave, as Ctrl-D does" in shown(found)
    assert "Assistant:" in terminal.type("Hello!")
    assert "at its beginning." in shown(terminal.type("+undo"))
    assert terminal.leave() == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_need_not_know_utf_8(start, environment, encoding):
    settings = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
                "LANG": "C", "LC_ALL": "C"}  # fmt: skip
    terminal = start("--template", "world", "--max-tokens", "5",
                     environment={**environment, **settings})  # fmt: skip
    terminal.wait_for_line()
    assert "Assistant: " in terminal.type("Caf\u00e9? \u4f60\u597d")
    assert "chinese" in terminal.type("+prompt")
    assert "Chat reset." in terminal.type("+reset")
    assert terminal.leave() == 0


def test_bytes_of_another_encoding_are_taken(start):
    terminal = start("--template", "world", "--max-tokens", "5")
    terminal.wait_for_line()
    start_line = terminal.screen.cursor.y
    terminal.child.send(b"Caf\xe9?\r")
    terminal.wait(lambda: terminal.screen.cursor.y > start_line)
    terminal.wait_for_line()
    assert "Assistant: " in terminal.text
    assert terminal.leave() == 0


def test_chinese_is_spoken_where_it_is_the_users(start, environment):
    terminal = start(environment={**environment, "LANG": "zh_CN.UTF-8"})
    terminal.wait_for_line()
    assert "对话已重置。" in terminal.type("+reset")
    assert terminal.leave() == 0


@pytest.mark.parametrize("busy", [False, True])
def test_without_its_terminal_the_program_ends(start, busy):
    terminal = start(*ENDLESS)
    terminal.wait_for("+help lists the commands.")
    terminal.wait_for_line()
    if busy:
        terminal.child.send("Hello!\r")
        terminal.wait(lambda: len(terminal.text) > 400)
    pid = terminal.child.pid
    terminal.child.ptyproc.fileobj.close()
    end = time.monotonic() + SECONDS
    while (found := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < end, "it goes on without a terminal"
        time.sleep(0.05)
    for child in (terminal.child, terminal.child.ptyproc):
        child.terminated = child.closed = True
    assert found[1] != 0


def test_a_signal_to_end_ends_it(start):
    terminal = start(*ENDLESS)
    terminal.wait_for_line()
    terminal.child.kill(signal.SIGTERM)
    assert terminal.ended() == 128 + signal.SIGTERM
    assert "Traceback" not in terminal.text


def test_a_history_that_cannot_be_kept_is_one_sentence(start, environment, tmp_path):
    (tmp_path / "file").write_text("")
    where = {**environment, "XDG_DATA_HOME": str(tmp_path / "file")}
    terminal = start("--max-tokens", "5", environment=where)
    terminal.wait_for("is not remembered for next time")
    assert "Chat reset." in terminal.type("+reset")
    assert "Not a directory" in terminal.type("+save a")
    assert terminal.leave() == 0


def test_a_full_disk_is_one_sentence(start):
    terminal = start("--max-tokens", "5", program=FULL)
    terminal.wait_for_line()
    for line in ("+reset", "+undo"):
        terminal.type(line)
        assert terminal.text.count("is not remembered for next time") == 1
    assert "File too large" in terminal.type("+save a")
    assert terminal.leave() == 0


def test_a_history_that_is_a_device_is_not_read(start, tmp_path):
    (tmp_path / "data" / "rwkvcpp").mkdir(parents=True)
    (tmp_path / "data" / "rwkvcpp" / "chat-history").symlink_to("/dev/zero")
    terminal = start("--max-tokens", "5")
    terminal.wait_for("is a device, expected a file.")
    assert "Chat reset." in terminal.type("+reset")
    assert terminal.leave() == 0


# While the model loads


def test_the_input_line_does_not_wait_for_the_model(start):
    terminal = start("--template", "world", "--max-tokens", "5", program=SLOW.format(seconds=3))
    terminal.wait(lambda: terminal.lines[0].startswith(">"))
    terminal.wait_for("loading")
    assert "lists the" not in terminal.text
    terminal.child.send("Hello!\r")
    terminal.wait_for("Assistant: ")
    assert "lists the commands" in shown(terminal.text)
    terminal.wait_for_line()
    assert terminal.leave() == 0


def test_the_welcome_comes_above_the_input_line(start):
    terminal = start("--template", "world", program=SLOW.format(seconds=1))
    terminal.wait(lambda: terminal.lines[0].startswith(">"))
    terminal.child.send("not yet sent")
    terminal.wait_for("lists the commands.")
    terminal.wait_for("> not yet sent")
    text = shown(terminal.text)
    assert text.index("lists the commands.") < text.index("> not yet sent")
    assert terminal.leave(CTRL_C + CTRL_D) == 0


def test_one_may_leave_before_the_model_is_there(start):
    terminal = start(program=SLOW.format(seconds=60))
    terminal.wait(lambda: terminal.lines[0].startswith(">"))
    begun = time.monotonic()
    assert terminal.leave() == 0
    assert time.monotonic() - begun < SECONDS


def test_waiting_for_the_model_can_be_stopped(start):
    terminal = start(program=SLOW.format(seconds=60))
    terminal.wait(lambda: terminal.lines[0].startswith(">"))
    terminal.child.send("Hello!\r")
    terminal.wait(lambda: "Hello!" not in terminal.lines[terminal.screen.cursor.y])
    terminal.child.send(CTRL_C)
    terminal.wait_for(Words("en")("unread"))
    terminal.wait(lambda: terminal.lines[terminal.screen.cursor.y].startswith("> "))
    assert terminal.leave() == 0


def test_a_missing_model_is_one_sentence(start):
    terminal = start("-m", "missing.gguf")
    assert terminal.ended() == 2
    assert "rwkvcpp: error: missing.gguf: No such file or directory" in terminal.text
    assert "Traceback" not in terminal.text


def test_a_model_that_turns_out_bad_is_one_sentence(start, tmp_path):
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(20))
    terminal = start("-m", str(bad), program=SLOW.format(seconds=1))
    terminal.wait(lambda: terminal.lines[0].startswith(">"))
    assert terminal.ended() == 2
    assert "rwkvcpp: error: " in terminal.text
    assert "bad.gguf" in shown(terminal.text).replace(" ", "")
    assert "Traceback" not in terminal.text


# Without a terminal


def piped(text: str | bytes, *arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rwkvcpp", "chat", *arguments]
    data = text.encode() if isinstance(text, str) else text
    found = subprocess.run(
        command, input=data, capture_output=True, timeout=120, check=False, **more
    )
    return subprocess.CompletedProcess(
        command, found.returncode, found.stdout.decode(), found.stderr.decode()
    )


def test_through_a_pipe_the_output_is_what_the_model_says():
    lines = "Hello!\n+nix\n+ -temp=0\n+stats\n"
    done = piped(lines, "--template", "world", "--max-tokens", "5", "--temperature", "0")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first == second
    assert "no command +nix" in done.stderr
    assert "messages 1," in done.stderr


def test_a_saved_conversation_goes_on_another_day(tmp_path):
    options = ["--template", "world", "--max-tokens", "5", "--sessions", str(tmp_path)]
    first = piped("Hello!\n+save talk\nAnd then?\n", *options, "--seed", "3")
    second = piped("And then?\n", *options, "--load", "talk", "--seed", "4")
    assert "Loaded talk" in second.stderr
    assert second.stdout == first.stdout.splitlines()[1] + "\n"
    missing = piped("Hello!\n", *options, "--load", "nothing")
    assert "there is no conversation 'nothing'" in missing.stderr
    assert missing.stdout  # and the conversation goes on


def test_a_conversation_begins_as_the_options_say():
    options = ["--prompt", "english-friends", "--system", "Be brief.", "--no-begin-of-text"]
    done = piped("+qa Hello!\n+stats\n", *options, "--max-tokens", "5", "--top-k", "7")
    assert done.returncode == 0
    assert "world, chat" in done.stderr  # people, with a model that knows none
    assert "top_k 7," in done.stderr


def test_quiet_says_only_what_the_model_says():
    done = piped("Hello!\n+nix\n", "--template", "world", "--max-tokens", "5", "-q")
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_exit_ends_before_the_input_does():
    done = piped("+exit\nHello!\n", "-q")
    assert (done.returncode, done.stdout) == (0, "")


def test_input_of_any_bytes_is_taken():
    done = piped(b"\xff\xfe\x00 caf\xe9\n", "--template", "world", "--max-tokens", "5", "-q")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1


def test_nothing_to_read_is_nothing_to_say():
    assert piped("", "-q").stdout == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_a_closed_stream_is_one_sentence(closed):
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m rwkvcpp chat -q {closed}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "rwkvcpp: error: standard input or output is closed: there is nobody to chat with"
    )


def test_a_reader_that_leaves_ends_it():
    command = f"yes 'Hello!' | {sys.executable} -m rwkvcpp chat -q --max-tokens 5 | head -n 2"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120,
                          check=True)  # fmt: skip
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--template", "nix"], "there is no template 'nix'"),
        (["--prompt", "nix.toml"], "nix.toml: No such file or directory"),
        (["--think", "on"], "has no thoughts to switch"),
        (["--state", "nix.pth"], "nix.pth: No such file or directory"),
        (["--temperature", "-1"], "temperature is -1.0"),
        (["--max-tokens", "0"], "max_tokens is to be '0'"),
    ],
)
def test_bad_options_are_one_sentence(arguments, sentence):
    done = piped("Hello!\n", *arguments, "-q")
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
