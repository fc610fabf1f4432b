"""Access: each request gets its record, and at the end of its answer a line in the log.

It stands around the whole application, so that what guards refuse, what streams and what clients
leave half read is counted, too. Paths are logged, queries are not: these may hold secrets.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from werkzeug.wsgi import ClosingIterator

from rwkvcpp.server.record import KEY, Record

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from rwkvcpp.server.service import Service

logger = logging.getLogger(__name__)

SLASHES = re.compile("/+")  # bases that end in one are put before paths that begin with one


class Access:
    """A WSGI application around another one."""

    def __init__(self, app: WSGIApplication, service: Service) -> None:
        self._app = app
        self._service = service

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer, and tell when the answer is over."""
        service = self._service
        record = environ[KEY] = Record(environ, service.metrics, service.disconnects)
        environ["PATH_INFO"] = SLASHES.sub("/", environ.get("PATH_INFO", "")).rstrip("/") or "/"
        statuses = ["500"]

        def started(status: str, *arguments: Any) -> Callable[[bytes], object]:
            statuses.append(status)
            return start_response(status, *arguments)

        def over() -> None:
            self._tell(environ, record, int(statuses[-1].split(" ")[0]))

        try:
            return ClosingIterator(self._app(environ, started), [over])
        except BaseException:
            over()
            raise

    def _tell(self, environ: WSGIEnvironment, record: Record, status: int) -> None:
        method = environ["REQUEST_METHOD"]
        self._service.metrics.answered(
            method if record.route else "", record.route, status, record.seconds
        )
        logger.info(
            "%s %s %d %.0f ms %d+%d tokens",
            method,
            quote(environ.get("PATH_INFO", ""), encoding="latin-1"),
            status,
            record.seconds * 1000,
            record.prompt_tokens,
            record.completion_tokens,
        )
