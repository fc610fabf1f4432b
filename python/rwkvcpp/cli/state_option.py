"""The option that says what a session begins with, and the session itself."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import rwkvcpp


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
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", rwkvcpp.ApproximateStateWarning)
        session = model.session_from(state)
    for warning in caught:
        print(f"rwkvcpp: {warning.message}", file=sys.stderr)
    return session
