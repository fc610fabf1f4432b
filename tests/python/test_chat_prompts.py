"""Prompt files are data: TOML, JSON and ChatRWKV's Python files, whatever is in them."""

import json
import sys

import pytest

from rwkvcpp.chat import PromptFile, find_prompt, packaged_prompts, read_prompt

CHATRWKV = """
interface = ":"
user = "Bob"
bot = "Alice"

# If you modify this, keep the blank lines.
init_prompt = f'''
The following is a conversation between {user} and {bot}.   \r
\u3000{user}{interface} Hello {bot}.

{bot}{interface} Hi {user}!
'''
"""
EXPECTED = PromptFile(
    name="friends",
    user="Bob",
    bot="Alice",
    prompt="The following is a conversation between Bob and Alice.\n"
    "Bob: Hello Alice.\n\nAlice: Hi Bob!",
)


@pytest.fixture
def written(tmp_path):
    def write(name, content):
        if name.endswith(".toml") and sys.version_info < (3, 11):
            pytest.skip("Python 3.10 has no TOML reader")
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_prompt_of_chatrwkv_is_read(written):
    assert read_prompt(written("friends.py", CHATRWKV)) == EXPECTED


def test_toml_and_json_say_the_same(written):
    prompt = EXPECTED.prompt.replace("Bob", "{user}").replace("Alice", "{bot}")
    toml = f'user = "Bob"\nbot = "Alice"\nprompt = """\n{prompt}\n"""\n'
    assert read_prompt(written("friends.toml", toml)) == EXPECTED
    for text in (prompt, prompt.split("\n")):
        values = {"user": "Bob", "bot": "Alice", "init_prompt": text}
        assert read_prompt(written("friends.json", json.dumps(values))) == EXPECTED


def test_texts_of_python_may_be_put_together(written):
    source = 'bot: str = "Al" + "ice"\nLENGTH = 40\ninit_prompt = "I am " f"{bot}." + "\\nYes."'
    assert read_prompt(written("p.py", source)).prompt == "I am Alice.\nYes."


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "open('{proof}', 'w')",
        "user = open('{proof}', 'w').name",
        "user = f'{{open(chr(112))}}'",
        "user = f'{{bot!r}}'",
        "user = [c for c in 'abc']",
        "user = unknown",
        "del user",
        "user = 'x' * 10**9",
        "user, bot = 'ab'",
        "if True: user = 'Bob'",
        "x = lambda: 1",
    ],
)
def test_code_is_refused_and_not_run(written, tmp_path, source):
    proof = tmp_path / "proof"
    path = written("code.py", 'bot = "B"\n' + source.format(proof=proof))
    with pytest.raises(ValueError, match=r"code\.py: line 2: .* would have to be run"):
        read_prompt(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.py", "user = 'Bob", "line 1: unterminated string"),
        ("x.py", "(" * 5000, "nested"),
        ("x.py", "x = " + "-" * 50000 + "1", "nested too deeply|would have to be run"),
        ("x.json", "[" * 200000, "nested too deeply|nesting"),
        ("x.json", "[1]", 'expected names with values, such as user = "Bob"'),
        ("x.json", '{"user": 3}', "user is 3, expected text"),
        ("x.json", '{"user"', "line 1"),
        ("x.toml", "user = Bob", "line 1"),
        ("x.toml", 'usr = "Bob"', "there is no 'usr' in a prompt, only user, bot"),
        ("x.toml", "", "there is no user, bot or prompt in it"),
        ("x.py", "n = 1", "there is no user, bot or prompt in it"),
        ("x.toml", b"user = '\xff'", "is no UTF-8 text: byte 8 is 0xff"),
        ("x.toml", b"\x7fELF\0\0", "is no text file: there are zero bytes in it"),
        ("x.toml", b"#" * 1_100_000, "too large for a prompt file"),
        ("x.gguf", "GGUF", r"a prompt file ends in one of \.toml, \.json, \.py, not in '\.gguf'"),
    ],
)
def test_a_bad_file_is_one_sentence_with_its_name(written, name, content, sentence):
    path = written(name, content)
    with pytest.raises(ValueError, match=f"(?s)^{path}: .*({sentence})"):
        read_prompt(path)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        find_prompt(str(tmp_path / "missing.toml"))


@pytest.mark.parametrize("name", packaged_prompts())
def test_packaged_prompts_are_read_and_complete(name):
    prompt = find_prompt(name)
    turns = prompt.prompt.split("\n\n")
    assert turns[-1].startswith(f"{prompt.bot}{prompt.interface} ")
    assert f"\n{prompt.user}{prompt.interface} " in "\n" + prompt.prompt
    assert prompt.about
    assert "{" not in prompt.prompt


def test_there_are_prompts_in_three_languages():
    assert {"english", "chinese", "japanese"} <= set(packaged_prompts())
