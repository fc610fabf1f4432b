"""Lines and what comes of them: every command, in every language, and all that can be bad."""

from __future__ import annotations

import re
import string
from dataclasses import replace

import pytest

import rwkvcpp
from rwkvcpp.chat import (
    COMMANDS,
    KEYS,
    LANGUAGES,
    Chat,
    Event,
    Leave,
    Note,
    Problem,
    Reading,
    Said,
    Settings,
    Silent,
    Speaking,
    Table,
    Wishes,
    Words,
    packaged_prompts,
    users_language,
)
from rwkvcpp.chat.settings import EXPECTED
from rwkvcpp.chat.texts import TEXTS
from rwkvcpp.profiles import PROFILES
from tests.data import tuned_goldens
from tests.reference.checkpoints import Checkpoint
from tests.reference.writers import write_bin


@pytest.fixture(scope="module")
def model() -> rwkvcpp.Model:
    return rwkvcpp.Model()


@pytest.fixture
def chat(model, tmp_path) -> Chat:
    """Somebody at the bundled model, in the template of World."""
    settings = Settings({"max_tokens": 12, "gen_tokens": 12, "seed": 1})
    return Chat(model, Wishes(template="world", settings=settings, sessions=tmp_path / "sessions"))


@pytest.fixture
def story(model, tmp_path) -> Chat:
    return Chat(model, Wishes(settings=Settings({"max_tokens": 12, "gen_tokens": 12, "seed": 1})))


def events(chat: Chat, line: str) -> list[Event]:
    return list(chat.answer(line))


def words(chat: Chat, line: str) -> str:
    """What the model says to a line, and nothing else is said."""
    found = events(chat, line)
    rest = [e for e in found if not isinstance(e, (Said, Speaking, Silent, Reading, Note))]
    assert rest == []
    assert any(isinstance(event, Speaking) for event in found)
    return "".join(event.text for event in found if isinstance(event, Said))


def note(chat: Chat, line: str) -> str:
    """The one sentence about a line."""
    found = [event for event in events(chat, line) if not isinstance(event, Reading)]
    assert [type(event) for event in found] == [Note]
    return found[0].text


def problem(chat: Chat, line: str) -> str:
    """The one sentence about what is wrong with a line; the conversation is as it was."""
    before = (chat.conversation.session.tokens, len(chat.conversation.exchanges))
    found = [event for event in events(chat, line) if not isinstance(event, Reading)]
    assert [type(event) for event in found] == [Problem]
    assert (chat.conversation.session.tokens, len(chat.conversation.exchanges)) == before
    assert "\n" not in found[0].text
    return found[0].text


def rows(chat: Chat, line: str) -> dict[str, str]:
    (table,) = events(chat, line)
    assert isinstance(table, Table)
    return dict(table.rows)


def n_exchanges(chat: Chat) -> int:
    return len(chat.conversation.exchanges)


# Messages


def test_a_message_is_answered(chat):
    found = events(chat, "Hello!")
    assert [type(event) for event in found if not isinstance(event, (Said, Reading))] == [
        Speaking, Silent, Note
    ]  # fmt: skip
    assert Speaking("Assistant") in found
    assert "+more" in found[-1].text
    assert n_exchanges(chat) == 1


def test_a_conversation_remembers(chat):
    words(chat, "Hello!")
    words(chat, "And then?")
    assert "Hello!" in chat.conversation.session.text
    assert n_exchanges(chat) == 2


def test_an_empty_line_is_no_message(chat):
    assert events(chat, "   ") == []
    assert events(chat, "") == []


def test_options_are_for_one_answer(chat):
    first = words(chat, "Hello! -temp=0")
    assert words(chat, "+ -top_p=0") == first
    assert chat.conversation.exchanges[-1].message == "Hello!"
    others = {words(chat, "+") for _ in range(4)}
    assert others != {first}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("Hi -temp=hot", "-temp=hot: expected a number"),
        ("Hi -temp=-1", "temperature is -1.0, expected at least 0"),
        ("Hi -top_p=2", "top_p is 2.0, expected 0 to 1"),
        ("Hi -temp=nan", "temperature is nan"),
        ("+gen Hi -temp=", "-temp=: expected a number"),
    ],
)
def test_a_bad_option_is_one_sentence(chat, line, sentence):
    assert sentence in problem(chat, line)


def test_after_a_space_anything_is_a_message(chat):
    words(chat, " +1 from me -temp=9x")
    assert chat.conversation.exchanges[-1].message == "+1 from me -temp=9x"


def test_typed_line_ends_are_line_ends(chat):
    words(chat, r"one\ntwo")
    assert "User: one\ntwo\n\nAssistant:" in chat.conversation.session.text


@pytest.mark.parametrize(
    ("line", "meant"),
    [("+restet", "+reset"), ("+stat", "+stats"), ("+Promt x", "+prompt"), ("+sav a", "+save")],
)
def test_an_unknown_command_complains_with_the_nearest(chat, line, meant):
    told = problem(chat, line)
    assert f"no command {line.split()[0].lower()}" in told
    assert meant in told


def test_what_is_like_no_command_has_no_nearest(chat):
    assert "Did you mean" not in problem(chat, "+1")
    assert "begin with a space" in problem(chat, "++++")


# ChatRWKV's commands


def test_plus_gives_another_answer(chat):
    assert "no message yet" in problem(chat, "+")
    words(chat, "Hello!")
    answers = {words(chat, "+") for _ in range(4)}
    assert len(answers) > 1
    assert n_exchanges(chat) == 1


def test_reset_begins_anew(chat):
    opening = chat.conversation.opening.tokens(chat.model, chat.habits)
    words(chat, "Hello!")
    assert note(chat, "+reset") == "Chat reset."
    assert n_exchanges(chat) == 0
    assert chat.conversation.session.tokens == opening


def test_prompt_begins_anew_with_its_people(chat):
    words(chat, "Hello!")
    assert "Bob talks with Alice" in note(chat, "+prompt english-friends")
    assert "Hello!" not in chat.conversation.session.text  # not on top of what was said
    assert Speaking("Alice") in events(chat, "Hi!")
    assert "\n\nBob: Hi!\n\nAlice:" in chat.conversation.session.text
    note(chat, "+reset")
    assert chat.conversation.opening.prompt.name == "english-friends"


def test_prompt_takes_files_of_chatrwkv(chat, tmp_path):
    path = tmp_path / "my prompt.py"
    path.write_text('user = "Ann"\nbot = "Ben"\ninterface = ":"\ninit_prompt = "They talk."\n')
    assert "Ann talks with Ben" in note(chat, f"+prompt {path}")
    assert "\nThey talk.\n\n" in chat.conversation.session.text


def test_prompt_alone_lists_what_there_is(chat):
    assert list(rows(chat, "+prompt")) == packaged_prompts()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("code.py", b"import os", "would have to be run"),
        ("binary.toml", b"\x00\x01", "zero bytes"),
        ("model.gguf", b"GGUF", "a prompt file ends in one of"),
        ("missing.toml", None, "missing.toml: No such file"),
        ("folder.toml", "folder", "folder.toml: Is a directory"),
    ],
)
def test_a_bad_prompt_file_is_one_sentence(chat, tmp_path, name, content, sentence):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    words(chat, "Hello!")
    assert sentence in problem(chat, f"+prompt {path}")


@pytest.mark.parametrize("command", ["+gen", "+i", "+qq", "+qa"])
def test_texts_outside_leave_the_conversation_alone(chat, command):
    words(chat, "Hello!")
    before = (chat.conversation.session.tokens, n_exchanges(chat))
    words(chat, f"{command} Why is the sky blue?")
    assert (chat.conversation.session.tokens, n_exchanges(chat)) == before
    assert "Why is the sky blue?" in chat.draft.session.text
    assert "Hello!" not in chat.draft.session.text


def test_texts_outside_are_chatrwkvs(chat):
    text = {}
    for command in ("gen", "i", "qq", "qa"):
        words(chat, f"+{command} Why?")
        session = chat.draft.session
        text[command] = chat.model.tokenizer.decode(
            session.tokens[: chat.draft.exchanges[0].n_asked]
        )
    assert text["gen"] == "\nWhy?"
    assert text["i"].startswith("\nBelow is an instruction that describes a task.")
    assert text["i"].endswith("\n\n# Instruction:\nWhy?\n\n# Response:\n")
    assert text["qq"] == "\nQ: Why?\nA:"
    assert text["qa"] == "User: Why?\n\nAssistant:"


def test_qa_asks_behind_the_prompt(chat):
    note(chat, "+prompt english-friends")
    words(chat, "Hello!")
    words(chat, "+qa Why?")
    assert chat.draft.session.text.count("Alice: ") > 2
    assert "Hello!" not in chat.draft.session.text


def test_three_plusses_go_on_and_two_write_another_way(chat):
    assert "no text yet" in problem(chat, "+++")
    assert "no text yet" in problem(chat, "++")
    first = words(chat, "+gen Once")
    assert len({words(chat, "++") for _ in range(4)} | {first}) > 1
    so_far = chat.draft.session.text
    more = {words(chat, "+++")}
    assert chat.draft.session.text.startswith(so_far)
    more |= {words(chat, "++") for _ in range(4)}  # of the last piece only
    assert len(more) > 1
    assert chat.draft.session.text.startswith(so_far)


def test_a_draft_may_be_at_its_end(chat):
    found = events(chat, "+gen Once")
    assert Note("(the end)") not in found
    chat.settings.given["logit_bias"] = {0: 1000.0}
    assert events(chat, "+++")[-1] == Note("(the end)")
    tokens = chat.draft.session.tokens
    assert 0 not in tokens
    assert events(chat, "+++")[-1] == Note("(the end)")  # and it stays there
    assert chat.draft.session.tokens == tokens


def test_the_storyteller_takes_them_as_they_are(story):
    words(story, "+gen One day a fox")
    assert story.draft.session.tokens[0] == 0
    assert story.draft.session.text.startswith("One day a fox")
    words(story, "+qa The Fox")
    assert "The Fox\n\nOnce upon a time" in story.draft.session.text


# Ours


def test_more_goes_on_with_a_cut_answer(chat):
    assert "no message yet" in problem(chat, "+more")
    first = words(chat, "Hello!")
    second = words(chat, "+more")
    assert chat.conversation.messages[-1]["content"] == first + second
    assert len(chat.conversation.messages) == 2
    chat.conversation.exchanges[-1].ending = "stop"
    assert "nothing to go on with" in problem(chat, "+more")


def test_undo_drops_exchanges(chat):
    assert problem(chat, "+undo") == "There is nothing to undo."
    for message in "abc":
        words(chat, message)
    assert "ends with “b”" in note(chat, "+undo")
    for bad in ("3", "0", "-1", "x", "1.5"):
        assert "a number from 1 to 2" in problem(chat, f"+undo {bad}")
    assert "at its beginning" in note(chat, "+undo 2")
    assert n_exchanges(chat) == 0


def test_fork_copies_and_stays_and_switch_goes(chat):
    words(chat, "Hello!")
    assert "is a copy" in note(chat, "+fork other one")
    words(chat, "Only here.")
    assert "ends with “Hello!”" in note(chat, "+switch other one")
    assert n_exchanges(chat) == 1
    assert rows(chat, "+switch") == {"  main": "“Only here.”", "* other one": "“Hello!”"}
    assert "ends with “Only here.”" in note(chat, "+switch main")
    assert n_exchanges(chat) == 2
    assert "already" in problem(chat, "+fork other one")
    assert "no conversation nowhere, only main, other one" in problem(chat, "+switch nowhere")
    assert "is no name" in problem(chat, "+fork a/b")


def test_save_and_load_bring_a_conversation_back(chat):
    words(chat, "Hello!")
    told = note(chat, "+save my talk")
    assert re.search(r"Saved as my talk \(0\.\d MiB\)", told)
    assert list(rows(chat, "+load")) == ["my talk"]
    expected = words(chat, "And then?")
    assert "ends with “Hello!”" in note(chat, "+load my talk")
    assert chat.name == "my talk"
    assert words(chat, "And then?") == expected
    assert set(chat.conversations) == {"main", "my talk"}


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "a\\b", "x" * 101, "-x", "a:b", "a\tb"])
def test_a_bad_name_is_refused(chat, tmp_path, name):
    words(chat, "Hello!")
    assert "is no name for a conversation" in problem(chat, f"+save {name}")
    assert "is no name for a conversation" in problem(chat, f"+load {name}")
    assert list(tmp_path.rglob("*")) == []


def test_names_may_be_of_any_language(chat):
    words(chat, "Hello!")
    note(chat, "+save 狐狸 и Ворона 1.2")
    assert list(rows(chat, "+load")) == ["狐狸 и Ворона 1.2"]


def test_nothing_saved_and_nothing_found(chat):
    assert "Nothing is saved in" in note(chat, "+load")
    assert "there is no conversation 'x'" in problem(chat, "+load x")


def test_damaged_and_foreign_files_are_one_sentence(chat, tmp_path):
    words(chat, "Hello!")
    note(chat, "+save good")
    saved = next((tmp_path / "sessions").iterdir())
    data = saved.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    bad = {"cut": data[: len(data) // 2], "flipped": bytes(flipped), "empty": b"", "gguf": b"GGUF"}
    for name, content in bad.items():
        saved.with_name(name + saved.suffix).write_bytes(content)
        assert str(saved.with_name(name + saved.suffix)) in problem(chat, f"+load {name}")


def test_other_weight_types_go_on_and_say_so(chat, shared, tmp_path):
    words(chat, "Hello!")
    note(chat, "+save talk")
    model = rwkvcpp.Model(shared / "demo" / "rwkv7-stories-f16.gguf")
    wishes = Wishes(template="world", settings=chat.settings, sessions=tmp_path / "sessions")
    other = Chat(model, wishes)
    told, loaded = events(other, "+load talk")
    assert "continues approximately" in told.text
    assert "Loaded talk" in loaded.text
    words(other, "And then?")
    note(other, "+undo 2")
    words(other, "Hello!")


def test_a_folder_that_cannot_be_written_is_one_sentence(model, tmp_path):
    (tmp_path / "file").write_text("")
    chat = Chat(model, Wishes(template="world", sessions=tmp_path / "file" / "x"))
    assert "Not a directory" in problem(chat, "+save a")


def test_a_state_of_another_model_is_refused(chat):
    words(chat, "Hello!")
    assert "tuned-rwkv7.pth" in problem(chat, f"+state {tuned_goldens.path('7')}")


def test_state_begins_anew_with_a_tuned_state(tmp_path):
    path = tmp_path / "bytes.bin"  # 256 tokens are bytes
    write_bin(path, Checkpoint("7", replace(tuned_goldens.SIZES, n_vocab=256), seed=1), "F32")
    chat = Chat(rwkvcpp.Model(path), Wishes(template="world", sessions=tmp_path))
    chat.settings.given["max_tokens"] = 5
    words(chat, "Hello!")
    plain = chat.conversation.session.logits
    state = tuned_goldens.path("7")
    assert (
        note(chat, f"+state {state}") == f"A new conversation begins with the tuned state {state}."
    )
    words(chat, "Hello!")
    tuned = chat.model.load_tuned_state(state)
    logits = chat.model.forward(chat.conversation.session.tokens, tuned)
    assert (chat.conversation.session.logits == logits).all()
    assert (chat.conversation.session.logits != plain).any()
    note(chat, "+save tuned")
    note(chat, "+load tuned")
    note(chat, "+undo")  # the state is read again
    words(chat, "Hello!")
    tuned = chat.model.load_tuned_state(state)
    logits = chat.model.forward(chat.conversation.session.tokens, tuned)
    assert (chat.conversation.session.logits == logits).all()


def test_a_missing_state_is_one_sentence(chat):
    words(chat, "Hello!")
    assert "nowhere.pth: No such file" in problem(chat, "+state nowhere.pth")


def test_state_alone_begins_without_one(chat):
    words(chat, "Hello!")
    assert note(chat, "+state") == "A new conversation begins without a tuned state."
    assert n_exchanges(chat) == 0


def test_system_begins_anew_and_says_so(chat):
    words(chat, "Hello!")
    assert note(chat, "+system Be brief.") == "A new conversation begins with this system text."
    assert chat.conversation.session.text == "System: Be brief.\n\n"
    assert "without a system text" in note(chat, "+system")
    assert chat.conversation.session.text == ""


def test_a_storyteller_has_no_system(story):
    assert "has no meaning here" in problem(story, "+system Be brief.")


def test_think_changes_how_answers_begin(model):
    chat = Chat(model, Wishes(template="g1", settings=Settings({"max_tokens": 5})))
    prompts = {
        "on": "Assistant: <think",
        "off": "Assistant: <think></think",
        "chat": "Assistant:",
        "think-a-lot": "(think a lot)\n\nAssistant: <think",
    }
    for wanted, prompt in prompts.items():
        assert "Answers are written in the mode" in note(chat, f"+think {wanted}")
        events(chat, "Why?")
        n_asked = chat.conversation.exchanges[-1].n_asked
        assert model.tokenizer.decode(chat.conversation.session.tokens[:n_asked]).endswith(prompt)
    assert "has no mode 'hard', only" in problem(chat, "+think hard")
    assert "think-a-lot" in note(chat, "+think")


def test_a_template_without_thoughts_says_so(chat):
    assert "has no thoughts" in problem(chat, "+think on")


def test_sampling_follows_the_mode_until_it_is_set(model):
    chat = Chat(model, Wishes(template="g1"))
    assert chat.manner().sampling == PROFILES["fake-think"].sampling
    note(chat, "+think on")
    assert chat.manner().sampling == PROFILES["open-think"].sampling
    note(chat, "+set top_p 0.9")
    note(chat, "+think off")
    assert chat.manner().sampling == PROFILES["fake-think"].params(top_p=0.9)
    note(chat, "+profile chat-creative")
    assert chat.manner().sampling == PROFILES["chat-creative"].params(top_p=0.9)
    note(chat, "+set top_p default")
    note(chat, "+profile default")
    assert chat.manner().sampling == PROFILES["fake-think"].sampling


def test_profile_alone_lists_them(chat):
    assert list(rows(chat, "+profile")) == list(PROFILES)
    assert "there is no profile 'nix', only standard" in problem(chat, "+profile nix")


SET = {
    "temperature": ("0.5", "0.5"), "top_p": ("0.25", "0.25"), "top_k": ("40", "40"),
    "presence_penalty": ("0.3", "0.3"), "frequency_penalty": ("0.4", "0.4"),
    "penalty_decay": ("0.99", "0.99"), "order": ("openai", "openai"), "seed": ("7", "7"),
    "max_tokens": ("33", "33"), "gen_tokens": ("44", "44"), "newline_shaping": ("on", "on"),
    "avoid_repeat": (".!", ".!"), "split_blank_lines": ("on", "on"),
    "begin_of_text": ("off", "off"), "thoughts": ("off", "off"), "language": ("en", "en"),
}  # fmt: skip


def test_every_setting_is_tested():
    assert SET.keys() == KEYS.keys()


@pytest.mark.parametrize("key", KEYS)
def test_set_changes_a_setting_and_default_takes_it_back(model, key):
    chat = Chat(model, Wishes(template="world"))
    before = chat.values()[key]
    typed, shown = SET[key]
    assert note(chat, f"+set {key} {typed}").startswith(f"{key} is {shown} now")
    assert list(rows(chat, f"+set {key}")) == [f"{key} {shown}"]
    note(chat, f"+set {key} default")
    assert chat.values()[key] == before or key == "seed"


def test_set_alone_lists_all(chat):
    assert [row.split()[0] for row in rows(chat, "+set")] == list(KEYS)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("+set temperature hot", "temperature is to be 'hot', expected a number"),
        ("+set temperature -1", "temperature is -1.0, expected at least 0"),
        ("+set top_k 2.5", "top_k is to be '2.5', expected a whole number"),
        ("+set max_tokens 0", "expected a whole number from 1 to"),
        ("+set thoughts maybe", "expected on or off"),
        ("+set language de", "expected en or zh"),
        ("+set order alphabetical", "order is 'alphabetical', expected one of"),
        ("+set temprature 1", "nothing called 'temprature' to set, only temperature"),
    ],
)
def test_a_bad_value_is_one_sentence_and_changes_nothing(chat, line, sentence):
    before = chat.values()
    assert sentence in problem(chat, line)
    assert chat.values() == before


def test_every_kind_of_value_has_a_name():
    assert {key.read for key in KEYS.values()} <= EXPECTED.keys()


def test_begin_of_text_begins_anew(chat):
    words(chat, "Hello!")
    assert "a new conversation begins" in note(chat, "+set begin_of_text off")
    assert n_exchanges(chat) == 0
    words(chat, "Hello!")
    assert 0 not in chat.conversation.session.tokens


def test_punctuation_that_is_no_token_is_named(chat):
    _, missing = events(chat, "+set avoid_repeat ，.")
    assert missing == Note("This vocabulary has no single token for ，, so that may be repeated.")


def test_read_puts_a_file_in_front_of_a_message(chat, tmp_path):
    path = tmp_path / "a file.txt"
    path.write_text("The sky is green.\n")
    assert "17 characters" in note(chat, f"+read {path}")
    words(chat, "What is green?")
    assert "User: The sky is green.\nWhat is green?\n\nAssistant:" in chat.conversation.session.text
    words(chat, "And then?")
    assert chat.conversation.session.text.count("The sky is green.") == 1


def test_a_file_alone_is_a_message(chat, tmp_path):
    path = tmp_path / "question.txt"
    path.write_text("Why?")
    note(chat, f"+read {path}")
    words(chat, "")
    assert "User: Why?\n\nAssistant:" in chat.conversation.session.text


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("latin.txt", b"caf\xe9", "latin.txt is no text: byte 3 is 0xe9, and not UTF-8"),
        ("empty.txt", b" \n", "empty.txt is empty"),
        ("large.txt", b"x" * (2**24 + 1), "large.txt is larger than 16.0 MiB"),
        ("missing.txt", None, "missing.txt: No such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(chat, tmp_path, name, content, sentence):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert sentence in problem(chat, f"+read {path}")
    assert chat.attached == ""


def test_stats_are_of_this_conversation(chat):
    words(chat, "Hello!")
    found = rows(chat, "+stats")
    tokens = len(chat.conversation.session.tokens)
    assert found["conversation"] == f"main: messages 1, tokens {tokens}, a state of 0.4 MiB"
    assert found["writing"].startswith("12 tokens, ")
    assert "seed 1" in found["sampling"]
    assert int(found["cache"].split()[0]) > 0


def test_a_question_asked_before_costs_nothing(chat):
    words(chat, "Hello!")
    note(chat, "+reset")
    words(chat, "Hello!")
    n_read, n_known = chat.conversation.pace.n_read, chat.conversation.pace.n_known
    assert n_known == n_read > 0


def test_help_lists_every_command(chat):
    assert [row.split()[0] for row in rows(chat, "+help")] == list(COMMANDS)
    assert list(rows(chat, "+help gen")) == ["+gen TEXT"]
    assert "Did you mean +reset" in problem(chat, "+help reste")


def test_exit_leaves(chat):
    assert events(chat, "+exit") == [Leave()]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_a_command_complains_about_too_much_or_too_little(chat, command):
    if not command.argument:
        assert "takes nothing behind it" in problem(chat, f"{command.name} x")
    elif command.is_needed:
        assert f"{command.name} needs {command.argument}" in problem(chat, command.name)


# Languages


def test_every_sentence_is_in_every_language():
    for name, sentences in TEXTS.items():
        assert len(sentences) == len(LANGUAGES)
        names = [
            {field for _, field, _, _ in string.Formatter().parse(sentence) if field is not None}
            for sentence in sentences
        ]
        assert names[0] == names[1], name


def test_every_command_and_setting_has_help_in_every_language():
    for row in [*COMMANDS.values(), *KEYS.values()]:
        assert len(row.help) == len(LANGUAGES)
        assert re.search("[\u4e00-\u9fff]", row.help[1])
        assert row.help[0].isascii()


def test_a_chat_speaks_chinese(model):
    chat = Chat(model, Wishes(template="world", language="zh"))
    assert note(chat, "+reset") == "对话已重置。"
    assert rows(chat, "+help")["++"] == "换个写法"
    assert note(chat, "+set language en") == "language is en now."
    assert note(chat, "+reset") == "Chat reset."


@pytest.mark.parametrize(
    ("variables", "language"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, "en"),
        ({}, "en"),
    ],
)
def test_the_language_is_the_environments(monkeypatch, variables, language):
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert users_language() == language


def test_a_language_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="language is 'de', expected one of en, zh"):
        Words("de")


# Trouble below


def test_an_error_below_is_one_sentence_and_the_chat_goes_on(chat, monkeypatch):
    words(chat, "Hello!")
    with monkeypatch.context() as patch:
        for error, sentence in [
            (MemoryError(), "out of memory"),
            (OSError(5, "Input/output error", "model.gguf"), "model.gguf: Input/output error"),
            (rwkvcpp.RwkvError("the file\nwas cut"), "the file was cut"),
        ]:

            def fail(*_: object, error: BaseException = error) -> None:
                raise error

            patch.setattr(chat.cache, "prefill_steps", fail)
            assert problem(chat, "And then?") == sentence
    words(chat, "And then?")
    assert n_exchanges(chat) == 2


def test_an_answer_can_be_stopped(chat):
    chat.settings.given["max_tokens"] = 10**6
    told = ""
    for event in chat.answer("Hello!"):
        told += event.text if isinstance(event, Said) else ""
        if len(told) > 50:
            chat.stop()
    assert event == Note("(stopped)")
    assert n_exchanges(chat) == 1


def test_reading_megabytes_can_be_stopped(chat):
    words(chat, "Hello!")
    tokens = chat.conversation.session.tokens
    found = []
    for event in chat.answer("word " * 300_000):
        found.append(event)
        if isinstance(event, Reading):
            chat.stop()
    assert found[-1] == Note(Words("en")("unread"))
    assert chat.conversation.session.tokens == tokens
    assert n_exchanges(chat) == 1
