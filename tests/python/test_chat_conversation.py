"""Conversations: what is fed for each turn, the way back, and what a saved one gives again.

Most run on the bundled model, which knows no roles: what it says does not matter here. Where the
words do, they are put into its mouth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

import rwkvcpp
from rwkvcpp import PrefixCache, SamplingParams, StateError
from rwkvcpp.chat import (
    Conversation,
    Event,
    Habits,
    Manner,
    Opening,
    PromptFile,
    Reading,
    Said,
    Speaking,
    Thought,
)
from rwkvcpp.chat.writer import Interrupted
from rwkvcpp.templates import TEMPLATES

ROLES = ["world", "g1", "bot", "raven", "qa"]
FRIENDS = PromptFile(name="friends", user="Bob", bot="Alice", prompt="Bob: Hi.\n\nAlice: Hello.")
MESSAGES = ["Hello there.", "Who was the king?", "Tell me\n\nmore of it."]
SHORT = Manner(max_tokens=12)


@pytest.fixture(scope="module")
def model() -> rwkvcpp.Model:
    return rwkvcpp.Model()


def conversation(model: rwkvcpp.Model, template: str = "world", **more: object) -> Conversation:
    options = {"begin_of_text": True, **more}
    return Conversation(model, Opening(template=TEMPLATES[template], **options), seed=1)


def spoken(events: Iterator[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Said))


def is_as_fed_at_once(talk: Conversation) -> bool:
    """Whether state and logits are those of the tokens, to the last bit."""
    model, tokens = talk.model, talk.session.tokens
    state = model.initial_state()
    logits = model.forward(tokens, state)
    arrays, expected = talk.session.state.to_numpy(), state.to_numpy()
    same = all((arrays[name] == expected[name]).all() for name in expected)
    return same and (talk.session.logits == logits).all()


@pytest.fixture
def says(monkeypatch):
    """Puts texts into the model's mouth: one for each answer, token by token."""

    def prepare(model: rwkvcpp.Model, *texts: str | list[int]) -> None:
        answers = iter(texts)

        class Scripted:
            def __init__(self, _: SamplingParams) -> None:
                text = next(answers)
                tokens = model.tokenizer.encode(text) if isinstance(text, str) else text
                self._tokens = iter(tokens)

            def sample(self, _: object) -> int:
                return next(self._tokens, 0)

        monkeypatch.setattr("rwkvcpp.chat.conversation.Sampler", Scripted)

    return prepare


# Turns


@pytest.mark.parametrize("template", [*ROLES, "stories", "plain"])
@pytest.mark.parametrize("with_prompt", [False, True])
def test_after_any_turns_the_state_is_that_of_its_tokens(model, template, with_prompt):
    talk = conversation(model, template, prompt=FRIENDS if with_prompt else None)
    for n, message in enumerate(MESSAGES):
        spoken(talk.reply(message, SHORT))
        assert len(talk.exchanges) == n + 1
        assert is_as_fed_at_once(talk)


@pytest.mark.parametrize(
    "file",
    [
        "tiny-rwkv-4v0-660K-FP16.bin",
        "tiny-rwkv-5v1-730K-FP32.bin",
        "tiny-rwkv-5v2-730K-Q5_1.bin",
        "tiny-rwkv-6v0-3m-Q5_1.bin",
        "tiny-rwkv-7v0-834K-Q5_1.bin",
    ],
)
def test_it_is_so_in_every_version(shared, file):
    model = rwkvcpp.Model(shared / "models" / file)
    talk = conversation(model, "raven", prompt=FRIENDS)
    for message in MESSAGES:
        spoken(talk.reply(message, SHORT))
        spoken(talk.another(SHORT))
        assert is_as_fed_at_once(talk)
    talk.undo(2)
    assert is_as_fed_at_once(talk)
    assert len(talk.messages) == 2


def test_a_conversation_reads_as_the_template_has_it(model, says):
    says(model, " I am fine.\n\nUser:", " Of course.\n\nUser:", " Bye.")
    talk = conversation(model, system="Be brief.")
    for message in ["How are you?", "Really?", "Good bye!"]:
        spoken(talk.reply(message, SHORT))
    assert model.tokenizer.decode(talk.session.tokens[1:]) == (
        "System: Be brief.\n\nUser: How are you?\n\nAssistant: I am fine.\n\nUser: Really?\n\n"
        "Assistant: Of course.\n\nUser: Good bye!\n\nAssistant: Bye."
    )


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (" Yes.\n\nUser:", "Yes."),
        (" Yes.\n\nUser: And", "Yes."),  # the stop ends the answer where it is complete
        (" Yes.\n\nSystem:", "Yes."),
        (" Yes.", "Yes."),
        (" One.\n\nTwo.", "One.\n\nTwo."),
    ],
)
def test_an_answer_ends_before_the_next_turn(model, says, said, shown):
    says(model, said, " No.")
    talk = conversation(model)
    assert spoken(talk.reply("Is it?", SHORT)).strip() == shown
    spoken(talk.reply("Why?", SHORT))
    text = model.tokenizer.decode(talk.session.tokens)
    assert text.endswith("\n\nUser: Why?\n\nAssistant: No.")
    assert text.count("User: Why?") == 1
    assert is_as_fed_at_once(talk)


def test_the_end_of_text_ends_an_answer_and_does_not_stay(model, says):
    says(model, [*model.tokenizer.encode(" Yes."), 0], " No.")
    talk = conversation(model)
    spoken(talk.reply("Is it?", SHORT))
    assert talk.exchanges[-1].ending == "end"
    spoken(talk.reply("Why?", SHORT))
    assert talk.session.tokens.count(0) == 1  # in front


def test_half_a_character_is_not_shown(model, says):
    euro = [byte + 1 for byte in "€".encode()]  # of the bundled vocabulary
    says(model, euro[:2])
    talk = conversation(model)
    assert spoken(talk.reply("How much?", replace(SHORT, max_tokens=2))) == ""
    assert talk.exchanges[-1].reply == ""
    assert len(talk.session.tokens) == talk.exchanges[-1].n_asked + 2


def test_thoughts_are_no_words(model, says):
    says(model, ">Well.</think>\n\nYes.\n\nUser:")
    talk = conversation(model, "g1")
    events = list(talk.reply("Is it?", replace(SHORT, mode="think", max_tokens=40)))
    assert "".join(event.text for event in events if isinstance(event, Thought)) == "Well."
    assert spoken(iter(events)) == "Yes."
    assert talk.messages[-1]["content"] == "Yes."
    assert talk.messages[-1]["reasoning_content"] == "Well."


def test_messages_render_to_what_was_consumed(model):
    talk = conversation(model, "g1")
    for message in MESSAGES:
        spoken(talk.reply(message, SHORT))
    template = talk.turns.template
    text = template.render(talk.messages, add_generation_prompt=False, verbatim=True)
    assert model.tokenizer.decode(talk.session.tokens[1:]) == text


def test_names_and_mark_of_a_prompt_are_used(model, says):
    says(model, " Fine.\n\nBob：")
    talk = conversation(model, prompt=replace(FRIENDS, interface="："))
    events = list(talk.reply("Well?", replace(SHORT, max_tokens=40)))
    assert Speaking("Alice") in events
    assert spoken(iter(events)) == "Fine."
    assert talk.session.text.startswith("\nBob: Hi.") or "\nBob: Hi." in talk.session.text


def test_a_prompt_of_people_makes_roles_of_a_storyteller(model):
    talk = conversation(model, "stories", prompt=FRIENDS)
    spoken(talk.reply("Hello!", SHORT))
    assert "\n\nBob: Hello!\n\nAlice:" in model.tokenizer.decode(talk.session.tokens)


# Stories


def test_a_title_begins_a_story(model, says):
    says(model, " there was a fox.")
    talk = conversation(model, "stories")
    assert spoken(talk.reply("The Fox", SHORT)) == "Once upon a time there was a fox."
    assert talk.session.tokens == [0, *model.tokenizer.encode("The Fox\n\nOnce upon a time"),
                                   *model.tokenizer.encode(" there was a fox.")]  # fmt: skip


def test_a_sentence_is_gone_on_with(model, says):
    says(model, " He was red.", " So he left.")
    talk = conversation(model, "stories")
    assert spoken(talk.reply("There was a fox.", SHORT)) == " He was red."
    talk.exchanges[-1].ending = "length"
    spoken(talk.reply("He was sad.", SHORT))
    text = model.tokenizer.decode(talk.session.tokens[1:])
    assert text == "There was a fox. He was red. He was sad. So he left."


def test_a_story_rests_at_the_end_of_a_paragraph(model, says):
    words = " word" * 80
    says(model, f" a\n\nb{words}\n\nnot this", " c")
    talk = conversation(model, "stories")
    told = spoken(talk.reply("It was so.", Manner(max_tokens=300)))
    assert told == f" a\n\nb{words}"
    assert talk.exchanges[-1].pending == "\n\n"
    assert spoken(talk.reply("", Manner(max_tokens=300))) == "\n\n c"


def test_after_the_end_another_story_begins(model, says):
    says(model, " The end.", " there was a crow.")
    talk = conversation(model, "stories")
    spoken(talk.reply("It was so.", SHORT))
    assert talk.exchanges[-1].ending == "end"
    assert spoken(talk.reply("The Crow", SHORT)) == "Once upon a time there was a crow."
    assert talk.session.tokens.count(0) == 2


# The way back


@pytest.mark.parametrize("template", ["world", "stories"])
@pytest.mark.parametrize("budget", [0, 2**20, 2**29])
def test_undo_is_as_if_it_had_not_been_said(model, template, budget):
    opening = Opening(template=TEMPLATES[template], begin_of_text=True)
    talk = Conversation(model, opening, cache=PrefixCache(budget), seed=1)
    moments = []
    for message in MESSAGES:
        moments.append((talk.session.tokens, [e.reply for e in talk.exchanges]))
        spoken(talk.reply(message, SHORT))
    talk.undo()
    assert (talk.session.tokens, [e.reply for e in talk.exchanges]) == moments[2]
    assert is_as_fed_at_once(talk)
    talk.undo(2)
    assert talk.session.tokens in (moments[0][0], [0])
    assert talk.exchanges == []
    spoken(talk.reply("And now?", SHORT))
    assert is_as_fed_at_once(talk)


def test_a_cache_changes_nothing_that_is_said(model):
    def history(budget: int) -> list[object]:
        opening = Opening(template=TEMPLATES["g1"], begin_of_text=True, prompt=FRIENDS)
        talk, cache = None, PrefixCache(budget)
        found: list[object] = []
        for _ in range(2):  # the second time all is known
            talk = Conversation(model, opening, cache=cache, seed=5)
            for message in MESSAGES:
                found.append(spoken(talk.reply(message, SHORT)))
                found.append(spoken(talk.another(SHORT)))
            talk.undo(2)
            found.append(spoken(talk.reply("Or else?", SHORT)))
            found.append(talk.session.tokens)
            found.append(talk.session.logits.tobytes())
        return found

    assert history(2**29) == history(0)


@pytest.mark.parametrize("n", [0, -1, 2])
def test_no_more_is_undone_than_there_is(model, n):
    talk = conversation(model)
    spoken(talk.reply("Hello.", SHORT))
    with pytest.raises(ValueError, match=f"there are 1 exchanges, so not {n} to drop"):
        talk.undo(n)
    assert len(talk.exchanges) == 1


def test_another_answer_stands_in_the_place_of_the_last(model):
    talk = conversation(model)
    spoken(talk.reply("Hello.", SHORT))
    first, n_asked = talk.exchanges[-1].reply, talk.exchanges[-1].n_asked
    answers = {first}
    for _ in range(5):
        spoken(talk.another(SHORT))
        answers.add(talk.exchanges[-1].reply)
        assert len(talk.exchanges) == 1
        assert talk.exchanges[-1].n_asked == n_asked
        assert len(talk.session.tokens) <= n_asked + SHORT.max_tokens
        assert is_as_fed_at_once(talk)
    assert len(answers) > 3


def test_another_answer_may_be_thought_about(model):
    talk = conversation(model, "g1")
    spoken(talk.reply("Hello.", replace(SHORT, mode="fake-think")))
    spoken(talk.another(replace(SHORT, mode="think")))
    assert [exchange.mode for exchange in talk.exchanges] == ["think"]
    assert "Assistant: <think" in model.tokenizer.decode(talk.session.tokens)
    assert "</think" not in model.tokenizer.decode(talk.session.tokens[: talk.exchanges[0].n_asked])


def test_a_cut_answer_goes_on_where_it_was_cut(model):
    whole, cut = conversation(model), conversation(model)
    greedy = Manner(sampling=SamplingParams(temperature=0), max_tokens=30)
    spoken(whole.reply("Hello.", greedy))
    spoken(cut.reply("Hello.", replace(greedy, max_tokens=11)))
    assert cut.exchanges[-1].ending == "length"
    spoken(cut.reply("", replace(greedy, max_tokens=19)))
    assert cut.session.tokens == whole.session.tokens
    assert cut.messages == whole.messages
    cut.undo()
    assert cut.exchanges[-1].whole == cut.exchanges[0].reply


def test_a_stop_cut_in_two_is_seen_when_the_answer_goes_on(model, says):
    tokens = model.tokenizer.encode(" Yes.\n\nUser: More")
    blank = 1 + tokens.index(model.tokenizer.encode("\n\n")[0])
    says(model, tokens[:blank], tokens[blank:])
    talk = conversation(model)
    assert spoken(talk.reply("Is it?", replace(SHORT, max_tokens=blank))) == "Yes."
    assert talk.exchanges[-1].pending == "\n\n"
    assert spoken(talk.reply("", replace(SHORT, max_tokens=20))) == ""
    assert talk.exchanges[-1].ending == "stop"


def test_a_fork_goes_its_own_way(model):
    talk = conversation(model)
    spoken(talk.reply("Hello.", SHORT))
    fork = talk.fork()
    tokens, messages = talk.session.tokens, talk.messages
    assert (fork.session.tokens, fork.messages) == (tokens, messages)
    spoken(fork.reply("And you?", SHORT))
    spoken(fork.another(SHORT))
    assert (talk.session.tokens, talk.messages) == (tokens, messages)
    fork.undo(2)
    assert (talk.session.tokens, talk.messages) == (tokens, messages)
    assert is_as_fed_at_once(talk)


# Being stopped


def test_a_message_that_was_not_read_was_not_said(model):
    talk = conversation(model)
    spoken(talk.reply("Hello.", SHORT))
    tokens, messages = talk.session.tokens, talk.messages
    with pytest.raises(Interrupted):
        for _ in talk.reply("word " * 2000, replace(SHORT, interrupted=lambda: True)):
            pass
    assert (talk.session.tokens, talk.messages) == (tokens, messages)
    assert is_as_fed_at_once(talk)


def test_an_answer_that_was_to_be_another_stays_if_that_is_not_read(model):
    talk = conversation(model, "g1")
    spoken(talk.reply("Hello.", replace(SHORT, mode="fake-think")))
    tokens, messages = talk.session.tokens, talk.messages
    with pytest.raises(Interrupted):
        spoken(talk.another(replace(SHORT, mode="think", interrupted=lambda: True)))
    assert (talk.session.tokens, talk.messages) == (tokens, messages)


def test_dropped_before_it_speaks_nothing_is_lost(model, says):
    words = " word" * 80
    says(model, f"{words}\n\n", " unheard", " So it was.")
    talk = conversation(model, "stories")
    spoken(talk.reply("It was so.", Manner(max_tokens=300)))
    assert talk.exchanges[-1].pending == "\n\n"
    events = talk.reply("", SHORT)
    while not isinstance(next(events), Speaking):
        pass
    events.close()
    assert talk.exchanges[-1].pending == "\n\n"
    spoken(talk.reply("Then he left.", SHORT))
    text = model.tokenizer.decode(talk.session.tokens)
    assert text.endswith("word\n\nThen he left. So it was.")


def test_dropped_while_it_reads_it_is_as_before(model):
    talk = conversation(model)
    spoken(talk.reply("Hello.", SHORT))
    tokens = talk.session.tokens
    events = talk.reply("word " * 2000, SHORT)
    assert isinstance(next(events), Reading)
    events.close()
    assert talk.session.tokens == tokens
    assert len(talk.exchanges) == 1
    assert is_as_fed_at_once(talk)


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_stopped_answer_is_kept_as_far_as_it_came(model, after):
    talk = conversation(model)
    looks, answers = iter([False] * after), lambda: bool(talk.exchanges)
    manner = replace(SHORT, max_tokens=500, interrupted=lambda: answers() and next(looks, True))
    told = spoken(talk.reply("Hello.", manner))
    assert talk.exchanges[-1].ending == "interrupted"
    assert talk.exchanges[-1].reply.strip() == told.strip()
    assert len(talk.session.tokens) == talk.exchanges[-1].n_asked + after
    spoken(talk.reply("Go on.", SHORT))
    assert is_as_fed_at_once(talk)


def test_a_dropped_answer_is_kept_as_far_as_it_came(model):
    talk = conversation(model)
    events = talk.reply("Hello.", replace(SHORT, max_tokens=500))
    told = ""
    for event in events:
        told += event.text if isinstance(event, Said) else ""
        if len(told) > 20:
            break
    events.close()
    assert talk.exchanges[-1].reply.lstrip() == told
    spoken(talk.reply("Go on.", SHORT))
    assert is_as_fed_at_once(talk)


# Seeds


def test_the_same_seed_gives_the_same_answers(model):
    one, two = conversation(model), conversation(model)
    for message in MESSAGES:
        assert spoken(one.reply(message, SHORT)) == spoken(two.reply(message, SHORT))
    other = conversation(model)
    other.set_seed(2)
    assert spoken(other.reply(MESSAGES[0], SHORT)) != one.messages[1]["content"]


# Habits


def test_the_blank_line_that_ends_a_prompt_can_be_two_tokens(model):
    blank, line = model.tokenizer.encode("\n\n"), model.tokenizer.encode("\n")
    assert len(blank) == 1
    opening = Opening(template=TEMPLATES["world"], begin_of_text=False, prompt=FRIENDS)
    usual = opening.tokens(model, Habits())
    split = opening.tokens(model, Habits(split_blank_lines=True))
    assert usual[-1:] == blank
    assert split == usual[:-1] + line * 2


# Files


def test_a_loaded_conversation_answers_as_the_saved_one(model, tmp_path):
    talk = conversation(model, "g1", system="Be brief.", prompt=FRIENDS)
    for message in MESSAGES:
        spoken(talk.reply(message, SHORT))
    talk.save(tmp_path / "talk")
    loaded = Conversation.load(tmp_path / "talk", model, cache=None)
    assert (loaded.opening, loaded.exchanges) == (talk.opening, talk.exchanges)
    assert spoken(loaded.reply("And then?", SHORT)) == spoken(talk.reply("And then?", SHORT))
    assert spoken(loaded.another(SHORT)) == spoken(talk.another(SHORT))
    loaded.undo(3)
    talk.undo(3)
    assert loaded.session.tokens == talk.session.tokens
    assert is_as_fed_at_once(loaded)


def test_a_loaded_story_goes_on(model, tmp_path):
    talk = conversation(model, "stories")
    spoken(talk.reply("The Fox", Manner(max_tokens=300)))
    talk.save(tmp_path / "story")
    loaded = Conversation.load(tmp_path / "story", model, cache=None)
    assert spoken(loaded.reply("", SHORT)) == spoken(talk.reply("", SHORT))


def test_a_session_that_is_no_conversation_is_refused(model, tmp_path):
    session = model.session()
    session.feed("Hello")
    session.save(tmp_path / "session")
    with pytest.raises(StateError, match="its metadata has no field chat"):
        Conversation.load(tmp_path / "session", model, cache=None)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"version": 2}, "chat.version is 2, expected 1"),
        ({"exchanges": [{}]}, r"has no field chat\.exchanges\[0\]\.turn"),
        ({"exchanges": 3}, "chat.exchanges is 3, expected a list of objects"),
        ({"seed": "x"}, "chat.seed is 'x', expected an integer"),
        ({"system": None}, "chat.system is None, expected text"),
        ({"begin_of_text": 1}, "chat.begin_of_text is 1, expected true or false"),
        ({"prompt": {"name": "x"}}, "has no field chat.prompt"),
    ],
)
def test_what_a_file_says_of_a_conversation_is_checked(model, tmp_path, change, sentence):
    talk = conversation(model)
    spoken(talk.reply("Hello.", SHORT))
    talk.save(tmp_path / "talk")
    session = model.load_session(tmp_path / "talk")
    session.metadata["chat"].update(change)
    session.save(tmp_path / "bad")
    with pytest.raises(StateError, match=f"bad: .*{sentence}"):
        Conversation.load(tmp_path / "bad", model, cache=None)


def test_places_past_the_end_are_refused(model, tmp_path):
    talk = conversation(model)
    spoken(talk.reply("Hello.", SHORT))
    talk.exchanges[0].n_before = 10**6
    talk.save(tmp_path / "bad")
    with pytest.raises(StateError, match=r"n_before is 1000000, expected an integer from 0 to"):
        Conversation.load(tmp_path / "bad", model, cache=None)
