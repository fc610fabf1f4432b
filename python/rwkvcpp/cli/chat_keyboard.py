"""The input line of a chat: history, several lines, completion of commands, pastes of any size."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys

from rwkvcpp.chat import COMMANDS, Words

MAX_PASTE = 2000  # characters that are shown as they are
HISTORY = "chat-history"


class Keyboard:
    """Reads what somebody types.

    Enter sends, Alt-Enter begins another line. EOFError is Ctrl-D, KeyboardInterrupt is Ctrl-C.
    """

    def __init__(self, folder: Path, words: Callable[[], Words]) -> None:
        """A keyboard that keeps its history in `folder`."""
        self.history = KeptHistory(folder)
        self._pastes: dict[str, str] = {}  # what stands for a long paste -> the paste
        self._session: PromptSession[str] = PromptSession(
            history=self.history,
            multiline=True,
            key_bindings=self._keys(),
            completer=CommandCompleter(words),
            complete_while_typing=False,
            prompt_continuation="  ",
            enable_suspend=True,
        )

    def read(self, prompt: str, status: Callable[[], str], *, refresh: float = 0.0) -> str:
        """A line; `status` says what stands at the right of it, again every `refresh` seconds."""
        text = self._session.prompt(
            prompt,
            rprompt=lambda: "" if self._session.app.is_done else status(),
            refresh_interval=refresh,
        )
        for shown, paste in self._pastes.items():
            text = text.replace(shown, paste)
        return as_typed(text)

    def say(self, function: Callable[[], None]) -> None:
        """Call `function`, which prints, above the input line; from any thread."""
        app = self._session.app
        if app.is_running and app.loop is not None:
            app.loop.call_soon_threadsafe(lambda: run_in_terminal(function) and None)
        else:
            function()

    def leave(self, error: BaseException) -> None:
        """Make `read` raise `error`, from any thread."""
        app = self._session.app
        if app.is_running and app.loop is not None:
            app.loop.call_soon_threadsafe(lambda: app.is_done or app.exit(exception=error))

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.validate_and_handle()

        @keys.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add(Keys.BracketedPaste)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text(self._shown(event.data))

        return keys

    def _shown(self, paste: str) -> str:
        """What a paste looks like in the line: megabytes would make every key slow."""
        paste = paste.replace("\r\n", "\n").replace("\r", "\n")
        if len(paste) <= MAX_PASTE:
            return paste
        shown = f"[paste {len(self._pastes) + 1}: {len(paste)} characters]"
        self._pastes[shown] = paste
        return shown


class CommandCompleter(Completer):
    """Completes the names of commands."""

    def __init__(self, words: Callable[[], Words]) -> None:
        self._words = words

    def get_completions(self, document: Document, _: CompleteEvent) -> Iterable[Completion]:
        typed = document.text_before_cursor
        if not typed.startswith("+") or " " in typed:
            return
        for command in COMMANDS.values():
            if command.name.startswith(typed):
                meaning = self._words().of(command.help)
                yield Completion(command.name, start_position=-len(typed), display_meta=meaning)


class KeptHistory(FileHistory):
    """What was typed, in a file of the user's. Where it cannot be written, the chat goes on."""

    def __init__(self, folder: Path) -> None:
        """The history in a folder, which is made."""
        super().__init__(str(folder / HISTORY))
        self._trouble = self._told = ""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / HISTORY
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
            if not path.is_file():
                raise OSError(errno.EINVAL, "is a device, expected a file")
        except OSError as error:
            self._trouble = self._reason(error)

    def trouble(self) -> str:
        """Why what is typed is not kept, once for each reason; "" when there is nothing new."""
        new = self._trouble if self._trouble != self._told else ""
        self._told = self._trouble
        return new

    def load_history_strings(self) -> Iterable[str]:
        if self._trouble:
            return
        try:
            yield from super().load_history_strings()
        except OSError as error:
            self._trouble = self._reason(error)

    def store_string(self, string: str) -> None:
        try:
            super().store_string(string.encode("utf-8", "replace").decode("utf-8"))
        except OSError as error:
            self._trouble = self._reason(error)

    def _reason(self, error: OSError) -> str:
        return f"{self.filename!s}: {error.strerror}"


def as_typed(text: str) -> str:
    """The text of keys that were read as UTF-8, whatever the terminal's encoding is."""
    data = text.encode("utf-8", "surrogateescape")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        import locale

        return data.decode(locale.getpreferredencoding(False), "replace")
