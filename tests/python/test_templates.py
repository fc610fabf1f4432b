"""Chat templates: exact strings and tokens, turns that join up, replies taken apart."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rwkvcpp
from rwkvcpp.templates import TEMPLATES, Reply, ReplyStream, Template, choose_template
from rwkvcpp.templates.reply import split
from rwkvcpp.tokenizer import Tokenizer, load_tokenizer

CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "Hi.\n\nHow are you?"},
    {"role": "user", "content": "well,\n\n\nthanks"},
]


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


# Strings

WORLD = (
    "System: Be brief.\n\nUser: hello\n\nAssistant: Hi.\n\nHow are you?\n\n"
    "User: well,\nthanks\n\nAssistant:"
)
GOLDENS = [
    ("world", None, WORLD),
    ("g1", "chat", WORLD),
    ("g1", None, WORLD + " <think></think"),
    ("g1", "think", WORLD + " <think"),
    ("g1", "think-zh", WORLD + " <think>好的"),
    ("g1a", "think-zh", WORLD + " <think>嗯"),
    ("g1", "think-a-bit", WORLD.replace("thanks", "thanks (think a bit)") + " <think"),
    ("g1", "think-medium", WORLD.replace("thanks", "thanks (think)") + " <think"),
    ("g1", "think-a-lot", WORLD.replace("thanks", "thanks (think a lot)") + " <think"),
    ("g1b", "think-a-lot", WORLD.replace("thanks", "thanks think a lot") + " <think"),
    (
        "bot",
        None,
        "System✿Be brief.✿\nUser✿hello✿\nBot✿Hi.\n\nHow are you?✿\nUser✿well,\nthanks✿\nBot✿<think",
    ),
    (
        "raven",
        None,
        "Be brief.\n\nBob: hello\n\nAlice: Hi.\nHow are you?\n\nBob: well,\nthanks\n\nAlice:",
    ),
    (
        "question",
        None,
        "Be brief.\n\nQuestion: hello\n\nAnswer: Hi.\n\nHow are you?\n\n"
        "Question: well,\nthanks\n\nAnswer:",
    ),
    (
        "qa",
        None,
        "Be brief.\n\nQ: hello\n\nA: Hi.\n\nHow are you?\n\nQ: well,\nthanks\n\nA:",
    ),
    ("plain", None, "Be brief.helloHi.\n\nHow are you?well,\n\n\nthanks"),
]


@pytest.mark.parametrize(("name", "mode", "text"), GOLDENS)
def test_a_conversation_is_written_as_the_models_were_trained(name, mode, text):
    assert choose_template(name).render(CONVERSATION, mode=mode) == text


@pytest.fixture(scope="module")
def world_tokenizer(shared) -> Tokenizer:
    return load_tokenizer(shared / "vocab" / "rwkv_vocab_v20230424.txt", 65536)


@pytest.mark.parametrize(
    ("name", "mode", "text", "ids"),
    [
        ("world", None, "Hi", "24281 59 3880 261 5585 41693 59"),
        ("g1", "think", "Hi", "24281 59 3880 261 5585 41693 59 295 35762"),
        ("g1", None, "Hi", "24281 59 3880 261 5585 41693 59 295 35762 5439 35762"),
        ("bot", None, "hello", "24281 10060 34550 10060 11 5645 10060 61 35762"),
        (
            "bot",
            "fake-think",
            "hello",
            "24281 10060 34550 10060 11 5645 10060 61 35762 5439 35762",
        ),
    ],
)
def test_prompts_are_the_tokens_that_the_models_were_trained_on(
    world_tokenizer, name, mode, text, ids
):
    prompt = choose_template(name).render(user(text), mode=mode)
    assert world_tokenizer.encode(prompt) == [int(id) for id in ids.split()]


# Turns

TEXTS = st.text(st.sampled_from("ab \n\r\t:✿<>/thinkUser。"), max_size=12)
ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
MESSAGES = st.lists(
    st.builds(lambda role, text: {"role": role, "content": text}, ROLES, TEXTS), max_size=6
)
ALL = pytest.mark.parametrize("template", TEMPLATES.values(), ids=lambda t: t.name)


@ALL
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_what_turns_add_is_what_all_messages_say(template: Template, data: st.DataObject):
    modes = st.sampled_from([None, *template.modes])
    history = [*data.draw(MESSAGES), *user(data.draw(TEXTS))]
    mode = data.draw(modes)
    consumed = template.render(history, mode=mode)
    for _ in range(data.draw(st.integers(0, 3))):
        reply, text = data.draw(TEXTS), data.draw(TEXTS)
        history += [template.reply_message(reply, mode=mode), *user(text)]
        mode = data.draw(modes)
        # What was consumed and not shown: any beginning of what follows, or a stop.
        following = template.next_turn(text, mode=mode)
        pending = following[: data.draw(st.integers(0, 12))]
        consumed += reply + pending + template.next_turn(text, pending=pending, mode=mode)
        assert consumed == template.render(history, mode=mode, verbatim=True)


def test_a_turn_that_the_model_began_in_its_own_way_gets_its_text():
    world = choose_template("world")
    assert world.next_turn("Hi", pending="\n\nUser: ") == "Hi\n\nAssistant:"
    assert world.next_turn("Hi", pending="\n\nUser:\n") == "Hi\n\nAssistant:"
    assert world.next_turn("Hi", pending="\n\nUser:x") == " Hi\n\nAssistant:"
    assert world.next_turn("Hi", pending="\n\nSystem:") == "\n\nUser: Hi\n\nAssistant:"


def test_a_session_goes_from_turn_to_turn_as_if_fed_at_once():
    """The bundled model ends no reply as a chat model would, but with a blank line, as Raven."""
    raven = choose_template("raven")
    session = rwkvcpp.Model().session()
    session.feed([0])
    history = user("Who was there?")
    prompt = raven.render(history)
    sampling = rwkvcpp.SamplingParams(seed=3)
    pendings = set()
    for max_tokens in (5, 80, 200):
        shown = session.generate(
            prompt, stop=raven.stops, max_tokens=max_tokens, sampling=sampling, stop_tokens=()
        )
        history += [raven.reply_message("".join(shown)), *user("And\n\nthen?")]
        pendings.add(session.pending)
        prompt = raven.next_turn("And\n\nthen?", pending=session.pending)
        assert session.text + session.pending.decode() + prompt == raven.render(
            history, verbatim=True
        )
    assert b"\n\n" in pendings
    session.feed(prompt)
    at_once = session.model.session()
    at_once.feed(session.tokens)
    arrays = at_once.state.to_numpy()
    assert all((arrays[name] == each).all() for name, each in session.state.to_numpy().items())


def test_an_empty_turn_does_not_end_in_a_blank():
    assert choose_template("world").render(user(" \n")) == "User:\n\nAssistant:"


def test_thoughts_of_earlier_replies_are_left_out_unless_verbatim():
    g1 = choose_template("g1")
    reply = g1.reply_message(">Hm.</think>\nYes.", mode="think-a-lot")
    assert reply["content"] == "Yes."
    assert reply["reasoning_content"] == "Hm."
    history = [*user("Well?"), reply, *user("Sure?")]
    assert g1.render(history, mode="chat") == (
        "User: Well?\n\nAssistant: Yes.\n\nUser: Sure?\n\nAssistant:"
    )
    assert g1.render(history, mode="chat", verbatim=True) == (
        "User: Well? (think a lot)\n\nAssistant: <think>Hm.</think>\nYes.\n\n"
        "User: Sure?\n\nAssistant:"
    )
    inline = [*user("Well?"), {"role": "assistant", "content": "<think>Hm.</think>\nYes."}]
    assert g1.render(inline, add_generation_prompt=False) == "User: Well?\n\nAssistant: Yes."


def test_a_hint_stands_only_where_a_reply_is_asked_for():
    g1 = choose_template("g1")
    asked = {"mode": "think-a-bit", "add_generation_prompt": False}
    assert g1.render(user("Hi"), **asked) == "User: Hi"
    answered = [*user("Hi"), {"role": "assistant", "content": "Oh."}]
    assert g1.render(answered, **asked) == "User: Hi\n\nAssistant: Oh."


def test_names_of_ones_own_move_the_stops_too():
    named = choose_template("world").with_names(user="Ann", assistant="Bea", system="Rules")
    assert named.stops == ("\n\nAnn:", "\n\nRules:")
    assert named.render(CONVERSATION[:2]) == "Rules: Be brief.\n\nAnn: hello\n\nBea:"
    assert choose_template("bot").with_names(user="Ann").stops == ("✿",)
    marked = choose_template("world").with_names(user="问", mark=" -")
    assert marked.stops == ("\n\n问 -", "\n\nSystem -")
    assert marked.render(user("Hi")) == "问 - Hi\n\nAssistant -"
    with pytest.raises(ValueError, match="name of the user is ' '"):
        choose_template("world").with_names(user=" ")


# Modes


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ({}, "fake-think"),
        ({"enable_thinking": True}, "think"),
        ({"enable_thinking": False}, "fake-think"),
        ({"reasoning_effort": "none"}, "fake-think"),
        ({"reasoning_effort": "low"}, "think-a-bit"),
        ({"reasoning_effort": "medium"}, "think-medium"),
        ({"reasoning_effort": "high"}, "think-a-lot"),
        ({"reasoning_effort": "high", "enable_thinking": False}, "fake-think"),
    ],
)
def test_the_words_of_requests_choose_a_mode(words, mode):
    assert choose_template("g1").mode_for(**words) == mode
    assert choose_template("world").mode_for(**words) == "chat"


def test_unknown_modes_and_efforts_are_refused_with_the_known_ones():
    g1 = choose_template("g1a")
    assert g1.mode_for(reasoning_effort="high") == "think"  # it knows no lengths
    with pytest.raises(ValueError, match="g1a has no mode 'loud', only fake-think, think, "):
        g1.render(user("Hi"), mode="loud")
    with pytest.raises(ValueError, match="'huge', expected one of none, minimal, low"):
        g1.mode_for(reasoning_effort="huge")


# Replies

REPLIES = [
    ("", " Hello.\n", "", "Hello."),
    (" <think></think", ">Hello.", "", "Hello."),
    (" <think></think", '>"Hello."', "", '"Hello."'),
    (" <think></think", "\n\nHello.", "", "Hello."),
    (" <think", ">\nHm.\n\nOh.\n</think>\n\nYes.\n\nNo. ", "Hm.\n\nOh.", "Yes.\n\nNo."),
    (" <think", " Hm.</think Yes.", "Hm.", "Yes."),
    (" <think", "> cut off", "cut off", ""),
    (" <think", "> a < b </thin", "a < b </thin", ""),
    (" <think>好的", "想。</think>\n好。", "好的想。", "好。"),
    ("", " <think>Hm.</think>Yes.", "Hm.", "Yes."),
    ("", " <thinker> no </think> tag", "", "<thinker> no </think> tag"),
    ("", "<think", "", ""),
    ("", " \n", "", ""),
]


@pytest.mark.parametrize(("begun", "text", "reasoning", "content"), REPLIES)
def test_thoughts_and_answer_are_told_apart(begun, text, reasoning, content):
    assert split(text, begun) == Reply(reasoning, content)


@pytest.mark.parametrize(("begun", "text", "reasoning", "content"), REPLIES)
def test_a_reply_may_come_letter_by_letter(begun, text, reasoning, content):
    stream = ReplyStream(begun)
    deltas = [delta for letter in text for delta in stream.push(letter)] + stream.finish()
    assert stream.reply == Reply(reasoning, content)
    assert "".join(text for kind, text in deltas if kind == "reasoning") == reasoning
    assert "".join(text for kind, text in deltas if kind == "content") == content


@given(
    begun=st.sampled_from(["", " <think", " <think></think", " <think>嗯"]),
    pieces=st.lists(
        st.sampled_from(["<think", "</think", ">", "<", "/thi", "nk", " ", "\n", "a", "Hm."])
    ),
)
def test_a_reply_cut_anywhere_joins_to_the_whole(begun, pieces):
    stream = ReplyStream(begun)
    deltas = [delta for piece in pieces for delta in stream.push(piece)] + stream.finish()
    whole = split("".join(pieces), begun)
    for kind, text in (("reasoning", whole.reasoning), ("content", whole.content)):
        assert "".join(delta.text for delta in deltas if delta.kind == kind) == text
    assert stream.reply == whole


# Messages


def test_content_may_be_parts_and_roles_may_be_spelled_as_others_do():
    parts = [{"type": "text", "text": "one"}, "two", {"text": "three"}]
    messages = [
        {"role": "developer", "content": "s", "name": "x"},
        {"role": "User", "content": parts, "type": "text"},
        {"role": "assistant", "content": None},
    ]
    assert choose_template("world").render(messages) == (
        "System: s\n\nUser: one\ntwo\nthree\n\nAssistant:\n\nAssistant:"
    )


def test_an_assistants_message_may_be_left_open():
    messages = [*user("Hi"), {"role": "assistant", "content": "Well", "prefix": True}]
    render = choose_template("bot").render
    assert render(messages, add_generation_prompt=False) == "User✿Hi✿\nBot✿Well"
    messages[1]["prefix"] = False
    assert render(messages, add_generation_prompt=False) == "User✿Hi✿\nBot✿Well✿"


@pytest.mark.parametrize("begun", ["<think>", "<think>\n</think>", "<think>Hm</think>\n\nWell"])
def test_a_message_that_is_left_open_keeps_its_thought(begun: str):
    messages = [*user("Hi"), {"role": "assistant", "content": begun, "prefix": True}]
    render = choose_template("g1").render
    assert render(messages, add_generation_prompt=False) == f"User: Hi\n\nAssistant: {begun}"
    assert "Hm" not in render(messages)  # it is one of the past there


def test_a_raw_message_stands_as_it_is():
    text = " one\n\n\ntwo\r\n"
    render = choose_template("world").render
    messages = [{"role": "user", "content": text, "raw": True}]
    assert render(messages) == f"User: {text}\n\nAssistant:"
    assert render(user(text)) == "User: one\ntwo\n\nAssistant:"


@pytest.mark.parametrize(
    ("messages", "error", "text"),
    [
        ("Hi", TypeError, "messages must be a list of dicts, got 'Hi'"),
        (["Hi"], TypeError, r"messages\[0\] must be a dict with role and content, got 'Hi'"),
        ([{"content": "Hi"}], ValueError, r"messages\[0\].role is None, expected one of system"),
        ([{"role": "me", "content": ""}], ValueError, "role is 'me', expected one of system"),
        ([{"role": "user", "content": 5}], TypeError, "content must be text or a list of text"),
        (
            [{"role": "user", "content": [{"type": "image_url"}]}],
            ValueError,
            r"messages\[0\].content\[0\] is of type 'image_url', expected 'text'",
        ),
        ([{"role": "user", "content": b"Hi"}], TypeError, "content must be text or a list of text"),
        ([{"role": "assistant", "tool_calls": 1}], TypeError, "tool_calls must be a list, got 1"),
        (
            [{"role": "assistant", "tool_calls": [{"id": 1}]}],
            ValueError,
            r"messages\[0\].tool_calls\[0\] has no function with a name",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}],
            ValueError,
            "arguments is no JSON: '{'",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "[1]"}]}],
            ValueError,
            r"arguments is \[1\], expected a JSON object",
        ),
    ],
)
def test_messages_that_are_none_are_refused_by_their_place(messages, error, text):
    with pytest.raises(error, match=text):
        choose_template("world").render(messages)


# Choice


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("RWKV-x060-World-1B6-v2.1-20240328-ctx4096", "world"),
        ("rwkv7-g1-2.9b-20250519-ctx4096", "g1a"),
        ("rwkv7-g1a-0.4b-20250905-ctx4096", "g1a"),
        ("rwkv7-g1a-1.5b-20250922-ctx4096", "g1b"),
        ("rwkv7-g1b-2.9b-Q8_0", "g1b"),
        ("rwkv7-g1c-7.2b-20251231-ctx8192", "g1"),
        ("rwkv7-G1j-1.5b", "g1"),
        ("RWKV-4-Raven-3B-v12-Eng98", "raven"),
        ("RWKV-4-Pile-430M-20220808-8066", "raven"),
        ("rwkv7-stories-q8_0", "stories"),
        ("rwkv-dragon1-1b", "world"),
        ("my-model", "world"),
    ],
)
def test_the_name_of_the_file_tells_the_template(stem, name):
    assert choose_template(path=f"folder/{stem}.gguf").name == name
    assert choose_template(path="model.gguf", general_name=stem).name == name
    assert choose_template(path="model.gguf", metadata={"general.name": stem}).name == name


def test_what_is_asked_for_comes_before_what_the_file_is_called():
    assert choose_template("bot", path="rwkv7-g1j-1.5b.pth").name == "bot"
    with pytest.raises(
        ValueError, match="no template 'chatml', and no file: built in are world, g1"
    ):
        choose_template("chatml")


def test_the_stops_are_those_of_the_format():
    stops = {name: template.stops for name, template in TEMPLATES.items()}
    assert stops["world"] == stops["g1"] == ("\n\nUser:", "\n\nSystem:")
    assert stops["bot"] == ("✿",)
    assert all(template.stop_tokens == (0,) for template in TEMPLATES.values())
    in_front = [name for name, template in TEMPLATES.items() if not template.begin_of_text]
    assert in_front == ["plain"]


# As Hugging Face's tokenizers do it


def test_a_model_applies_the_template_that_belongs_to_it():
    model = rwkvcpp.Model()
    assert model.chat_template is TEMPLATES["stories"]
    messages = user("Once upon a time")
    assert model.apply_chat_template(messages) == [0, *model.tokenizer.encode("Once upon a time")]
    assert model.apply_chat_template(messages, tokenize=False) == "Once upon a time"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "User: Hi"),
        ({"add_generation_prompt": True}, "User: Hi\n\nAssistant: <think></think"),
        (
            {"add_generation_prompt": True, "enable_thinking": True},
            "User: Hi\n\nAssistant: <think",
        ),
        (
            {"add_generation_prompt": True, "reasoning_effort": "low"},
            "User: Hi (think a bit)\n\nAssistant: <think",
        ),
        (
            {"add_generation_prompt": True, "tools": [{"name": "f"}]},
            "System: Tools:\n- f()\nReturn only a JSON function call.\n\n"
            "User: Hi\n\nAssistant: ```json",
        ),
    ],
)
def test_options_are_those_of_hugging_face(options, text):
    model = rwkvcpp.Model()
    options["chat_template"] = "g1"
    assert model.apply_chat_template(user("Hi"), tokenize=False, **options) == text
    assert model.apply_chat_template(user("Hi"), **options) == [0, *model.tokenizer.encode(text)]


def test_the_final_message_may_be_continued():
    apply = rwkvcpp.Model().apply_chat_template
    messages = [*user("Hi"), {"role": "assistant", "content": "Well"}]
    shown = {"chat_template": "bot", "tokenize": False}
    assert apply(messages, **shown) == "User✿Hi✿\nBot✿Well✿"
    assert apply(messages, continue_final_message=True, **shown) == "User✿Hi✿\nBot✿Well"
    with pytest.raises(ValueError, match="choose one"):
        apply(messages, add_generation_prompt=True, continue_final_message=True)
