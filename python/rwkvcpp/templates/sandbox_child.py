"""Renders one Jinja text: a program of its own, which imports nothing of ours.

On standard input a JSON object with what to render and how much it may take, on standard output
another with the text or with what went wrong. The limits hold for whatever the text does, be it one
long multiplication: the system ends a process that needs more time, and refuses it more memory.
"""

import json
import resource
import sys
from datetime import datetime
from typing import Any


def render(text: str, variables: dict[str, Any], max_output: int) -> str:
    from jinja2.exceptions import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    # As Hugging Face's tokenizers set it up, which is what templates are written for.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    pieces, length = [], 0
    for piece in environment.from_string(text).generate(variables):
        pieces.append(piece)
        length += len(piece)
        if length > max_output:
            raise ValueError(f"it gives more than {max_output} characters")
    return "".join(pieces)


def main() -> None:
    request = json.load(sys.stdin.buffer)
    for name, limit in request["limits"].items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    sys.path[:] = request["path"]
    try:
        answer = {"text": render(request["text"], request["variables"], request["max_output"])}
    except MemoryError:
        answer = {"error": "it needs too much memory"}
    except RecursionError:
        answer = {"error": "it is nested too deeply"}
    except Exception as error:  # whatever it is, it is the text's fault
        line = getattr(error, "lineno", None)
        where = "" if line is None else f"line {line}: "
        answer = {"error": f"{where}{str(error) or type(error).__name__}"[:500]}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
