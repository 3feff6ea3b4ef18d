"""The prompts: their slots and, whatever stands in them, one turn of the user and one that the judge opens."""

import re

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rmkit.generation import Sampling
from rmkit.generation.local import encode_prompt, render_messages
from rmkit.judges.base import PREFERENCE, JudgeTask, Scale
from rmkit.judges.language_model import JudgeSampler, LanguageModelJudge
from rmkit.judges.meta_judge import JudgmentSet, MetaJudge
from rmkit.judges.prompts import JUDGE_PROMPTS, META_JUDGE_PROMPTS

TURN = "{% for message in messages %}"
END = "{% endfor %}{% if add_generation_prompt %}"
# name -> template, and what makes its turns
TEMPLATES = {
    "chatml": (
        TURN + "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n" + END
        + "<|im_start|>assistant\n{% endif %}",
        r"<\|im_start\|>\w*|<\|im_end\|>",
    ),
    "llama 2": (
        TURN + "{% if message.role == 'user' %}<s>[INST] {{ message.content | trim }} [/INST]"
        "{% else %} {{ message.content }} </s>{% endif %}{% endfor %}",
        r"<s>|</s>|\[/?INST\]|<</?SYS>>",
    ),
    "llama 3": (
        "<|begin_of_text|>" + TURN + "<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
        "{{ message.content | trim }}<|eot_id|>" + END + "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        r"<\|\w+\|>",
    ),
    "gemma": (
        "<bos>" + TURN + "<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}\n"
        "{{ message.content | trim }}<end_of_turn>\n" + END + "<start_of_turn>model\n{% endif %}",
        r"<bos>|<eos>|<(?:start|end)_of_turn>\w*",
    ),
    "phi": (
        TURN + "<|{{ message.role }}|>\n{{ message.content }}<|end|>\n" + END + "<|assistant|>\n{% endif %}",
        r"<\|\w+\|>",
    ),
    "deepseek": (
        "<｜begin▁of▁sentence｜>" + TURN + "{% if message.role == 'user' %}<｜User｜>{{ message.content }}{% else %}"
        "<｜Assistant｜>{{ message.content }}<｜end▁of▁sentence｜>{% endif %}" + END + "<｜Assistant｜>{% endif %}",
        r"<｜[^｜]*｜>",
    ),
    "vicuna": (
        "A chat. " + TURN + "{{ message.role | upper }}: {{ message.content }} " + END + "ASSISTANT:{% endif %}",
        r"\b[A-Z]{4,}:",
    ),
    "alpaca": (
        TURN + "### {{ 'Instruction' if message.role == 'user' else 'Response' }}:\n{{ message.content }}\n\n" + END
        + "### Response:\n{% endif %}",
        r"(?m)^.*###.*$",
    ),
    "human and assistant": (
        TURN + "\n\n{{ {'user': 'Human', 'assistant': 'Assistant'}[message.role] }}: {{ message.content }}" + END
        + "\n\nAssistant:{% endif %}",
        r"\b(?:Human|Assistant|System):",
    ),
}
SPECIAL = ["<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<s>", "</s>", "<|eot_id|>", "<|start_header_id|>",
           "<|end_header_id|>", "<end_of_turn>", "<start_of_turn>", "<bos>", "<eos>", "<｜Assistant｜>", "[SEP]",
           "<think>"]


def build_tokenizer(template, normalised=False):
    """Words and characters; special tokens, found before or after a normaliser that changes what it can."""
    words = ["[UNK]", *"abcdefghijklmnopqrstuvwxyz"]
    core = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    if normalised:
        core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.BertNormalizer(lowercase=False)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", chat_template=template)
    tokenizer.add_tokens([AddedToken(token, normalized=normalised, special=True) for token in SPECIAL])
    return tokenizer


def user(text):
    return [{"role": "user", "content": text}]


def assistant(text):
    return [{"role": "assistant", "content": text}]


def query_everything(scripted, text, tokens=()):
    """The conversations of every prompt of both judges, in both orders, with `text` in every slot."""
    generator = scripted(lambda shown, request: "Score: 1")
    sampler = JudgeSampler(generator, Sampling(), special_tokens=tokens)
    for judge_prompt in JUDGE_PROMPTS.values():
        dialogue = [*user(text), *assistant(text), *user(text)]
        for prompt in (user(text), dialogue):
            responses = (assistant(text), assistant(f"{text} "))[:judge_prompt.responses]
            LanguageModelJudge(sampler, judge_prompt).judge([JudgeTask("t", prompt, responses)])
    MetaJudge(sampler).compare([JudgmentSet(user(text), assistant(text), (text, f"{text} "))])
    return [request.prompt for request in generator.requests]


@pytest.fixture(scope="module")
def plain(scripted):
    """Every question about a harmless text."""
    return query_everything(scripted, "Blue.")


@pytest.fixture(scope="module")
def attacked(scripted, attacks):
    """attack -> every question about it."""
    return {text: query_everything(scripted, text) for texts in attacks.values() for text in texts}


@pytest.mark.parametrize("template, pattern", TEMPLATES.values(), ids=TEMPLATES)
def test_one_turn_of_the_judge(template, pattern, plain, attacked):
    tokenizer = build_tokenizer(template)

    def find_turns(conversation):
        return re.findall(pattern, render_messages(tokenizer, conversation))

    wanted = find_turns(plain[0])
    assert wanted and all(find_turns(asked) == wanted for asked in plain)
    for text, conversations in attacked.items():
        assert all([message["role"] for message in asked] == ["user"] for asked in conversations)
        assert all(find_turns(asked) == wanted for asked in conversations), text
    assert any(find_turns(user(f"Blue.\n{text}")) != wanted for text in attacked)  # shown as they are, they make turns


@pytest.mark.parametrize("normalised", [False, True])
def test_no_special_token_comes_from_what_is_judged(normalised, plain, attacked, scripted):
    tokenizer = build_tokenizer(TEMPLATES["chatml"][0], normalised)
    special = set(tokenizer.convert_tokens_to_ids(SPECIAL))

    def find_special(conversation):
        return [token for token in encode_prompt(tokenizer, conversation) if token in special]

    wanted = find_special(plain[0])
    assert len(wanted) == 3
    all_of_them = {text: query_everything(scripted, text) for text in ("".join(SPECIAL), " ".join(SPECIAL).upper())}
    for text, conversations in (attacked | all_of_them).items():
        assert all(find_special(asked) == wanted for asked in conversations), text
    assert sum(find_special(user(text)) != wanted for text in attacked) > 5  # shown as they are, they do


def test_tokens_that_look_like_words_are_broken_where_they_are_known(scripted):
    shown = query_everything(scripted, "say sesame now", ["sesame"])
    assert all("sesame" not in asked[0]["content"] and "s esame" in asked[0]["content"] for asked in shown)


def test_prompts():
    assert {name: (prompt.responses, prompt.scale) for name, prompt in JUDGE_PROMPTS.items()} == {
        "additive_5": (1, Scale(0, 5)), "scale_100": (1, Scale(0, 100)), "synthetic": (1, Scale(0, 13)),
        "pairwise": (2, PREFERENCE),
    }
    slots = {slot: f"> {slot}" for slot in ("request", "first", "second")}
    for name, form in (("additive_5", "Score: n"), ("scale_100", "Score: n"), ("pairwise", "Winner: Response B")):
        text = JUDGE_PROMPTS[name].render(**slots)[0]["content"]
        assert text.endswith(form) and "{" not in text and text.count("> request") == text.count("> first") == 1
    for name in ("additive_5", "scale_100"):
        meta = META_JUDGE_PROMPTS[name].render(**slots, response="> response")[0]["content"]
        rule = JUDGE_PROMPTS[name].render(**slots)[0]["content"].split("\n\n")[1]
        assert f"<rule>\n{rule}\n</rule>" in meta and meta.endswith("Winner: Judgment B")
