"""The option that says what a session begins with, and the session itself."""

from __future__ import annotations

import argparse
from pathlib import Path

import rwkvcpp
from rwkvcpp.cli.warning_lines import warning_lines


def add_state_option(parser: argparse._ActionsContainer) -> None:
    """--state, for start_session."""
    parser.add_argument(
        "--state",
        type=Path,
        metavar="FILE",
        help="go on from a saved session or state, or begin with a tuned state",
    )


def start_session(model: rwkvcpp.Model, state: Path | None) -> rwkvcpp.Session:
    """A session that begins as --state says; that it is only approximate is said in one line."""
    if state is None:
        return model.session()
    with warning_lines(rwkvcpp.ApproximateStateWarning):
        return model.session_from(state)
