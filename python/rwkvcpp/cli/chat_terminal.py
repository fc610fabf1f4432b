"""Chat in a terminal: the input line at once, the model behind it, answers as they come."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import FrameType

from rwkvcpp.chat import Chat, Event, Leave, Note, Silent, Wishes, Words, users_folder
from rwkvcpp.cli.chat_keyboard import Keyboard
from rwkvcpp.cli.chat_loading import Loading, Progress
from rwkvcpp.cli.chat_screen import Screen
from rwkvcpp.cli.model_options import make_model

PATIENCE = 0.1  # seconds to wait for the model before the input line is shown without it
TICK = 0.1  # seconds between two looks at how far it is


def converse(args: argparse.Namespace, wishes: Wishes) -> int:
    """Chat until somebody leaves."""
    return Terminal(args, wishes).run()


class Terminal:
    """Somebody at a terminal, and a chat that may still be loading."""

    def __init__(self, args: argparse.Namespace, wishes: Wishes) -> None:
        self._words = Words(wishes.language)
        self._screen = Screen(lambda: self._words)
        self._keyboard = Keyboard(users_folder(), lambda: self._words)
        self._is_bundled = args.model is None
        self._welcoming, self._is_welcome = threading.Lock(), False

        def make(progress: Progress) -> Chat:
            return Chat(make_model(args, progress=progress), wishes)

        self._loading = Loading(make)

    def run(self) -> int:
        """Read and answer, until somebody leaves."""
        try:
            self._loading.wait(PATIENCE)
            self._loading.when_over = self._welcome_above
            if self._loading.is_over:
                self._welcome()
            while True:
                try:
                    typed = self._read()
                except KeyboardInterrupt:
                    self._screen.show(Note(self._words("leave")))
                    continue
                except EOFError:
                    return 0
                if not self._answer(typed):
                    return 0
        finally:
            self._loading.give_up()

    # The line

    def _read(self) -> str:
        """What somebody types; how far the model is stands at the right until it is there."""
        if trouble := self._keyboard.history.trouble():
            self._screen.show(Note(self._words("no history", reason=trouble)))
        refresh = 0.0 if self._loading.is_over else TICK
        return self._keyboard.read(self._prompt(), self._status, refresh=refresh)

    def _prompt(self) -> str:
        """The name of the conversation, when there may be several."""
        if self._loading.is_over and len(self._loading.chat().conversations) > 1:
            return f"{self._loading.chat().name}> "
        return "> "

    def _status(self) -> str:
        if self._loading.is_over:
            return ""
        return f"{self._words('loading')} {self._loading.fraction:.0%}"

    # The model

    def _welcome_above(self) -> None:
        """The model is there while somebody types, or it will not come."""
        try:
            self._loading.chat()
        except Exception as error:
            self._keyboard.leave(error)
        else:
            self._keyboard.say(self._welcome)

    def _welcome(self) -> None:
        """Say what is said first, on whichever thread comes first."""
        with self._welcoming:
            if self._is_welcome:
                return
            self._is_welcome, chat = True, self._loading.chat()
            self._screen.show(Note(chat.welcome()))
            if self._is_bundled:
                self._screen.show(Note(self._words("real model")))
            for event in chat.greet():
                self._screen.show(event)

    def _wait(self) -> Chat:
        """The chat, when it is there."""
        if not self._loading.is_over:
            with self._screen.busy(self._status()) as status:
                while not self._loading.wait(TICK):
                    status.update(self._status())
        self._welcome()
        return self._loading.chat()

    # The answer

    def _answer(self, typed: str) -> bool:
        """Answer a line; whether to go on after it."""
        try:
            chat = self._wait()
        except KeyboardInterrupt:
            self._screen.show(Note(self._words("unread")))
            return True
        try:
            with stopped_by_ctrl_c(chat), closing(chat.answer(typed)) as events:
                return self._show(chat, events)
        except KeyboardInterrupt:
            self._screen.show(Silent())
            self._screen.show(Note(self._words("stopped")))
            return True
        finally:
            self._screen.rest()
            self._words = chat.words

    def _show(self, chat: Chat, events: Iterator[Event]) -> bool:
        for event in events:
            if isinstance(event, Leave):
                return False
            if chat.shown(event):
                self._screen.show(event)
        return True


@contextmanager
def stopped_by_ctrl_c(chat: Chat) -> Iterator[None]:
    """Ctrl-C ends the answer and nothing else; a second one does not wait for its end."""
    pressed = False

    def stop(_: int, __: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        chat.stop()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
