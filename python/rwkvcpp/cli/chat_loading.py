"""The model loads, and the beginning of the conversation is read, behind the input line."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

from rwkvcpp.chat import Chat

Progress: TypeAlias = Callable[[int, int], None]


class Unwanted(Exception):
    """Whoever waited for the model has gone."""


class Loading:
    """A chat in the making, on a thread of its own."""

    def __init__(self, make: Callable[[Progress], Chat]) -> None:
        """Begin to load: `make` is given the function that it is to tell its progress."""
        self._make = make
        self._unwanted = False
        self._fraction = 0.0
        self._chat: Chat | None = None
        self._error: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loading", daemon=True)
        self.when_over: Callable[[], None] = lambda: None
        self._thread.start()

    @property
    def fraction(self) -> float:
        """How much of the weights is there, 0 to 1."""
        return self._fraction

    @property
    def is_over(self) -> bool:
        """Whether there is a chat, or there will be none."""
        return self._over.is_set()

    def wait(self, seconds: float) -> bool:
        """Whether it was over within so many seconds."""
        return self._over.wait(seconds)  # Ctrl-C in Thread.join would make Python lose the thread

    def chat(self) -> Chat:
        """The chat, once it is over; raises what went wrong."""
        if self._error is not None:
            raise self._error
        assert self._chat is not None, "asked for before it was over"
        return self._chat

    def give_up(self) -> None:
        """Nobody wants the chat any more; returns when the thread has ended."""
        self._unwanted = True
        if self._chat is not None:
            self._chat.stop()
        self._over.wait()

    def _run(self) -> None:
        try:
            chat = self._make(self._progress)
            self._chat = chat
            for _ in chat.open():
                self._progress(1, 1)
        except BaseException as error:  # it is raised where somebody waits
            self._error = error
        self._over.set()
        self.when_over()

    def _progress(self, done: int, total: int) -> None:
        if self._unwanted:
            raise Unwanted
        self._fraction = done / total if total else 1.0
