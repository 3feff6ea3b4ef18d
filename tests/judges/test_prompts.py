"""The prompts: their slots, and one user turn whatever text fills them."""

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

# name -> beginning, each message, generation prompt, and a pattern of what makes turns
TEMPLATES = {
    "chatml": ("", "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n", "<|im_start|>assistant\n",
               r"<\|im_start\|>\w*|<\|im_end\|>"),
    "llama 2": ("", "{% if message.role == 'user' %}<s>[INST] {{ message.content | trim }} [/INST]{% else %} "
                "{{ message.content }} </s>{% endif %}", "", r"<s>|</s>|\[/?INST\]|<</?SYS>>"),
    "llama 3": ("<|begin_of_text|>", "<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
                "{{ message.content | trim }}<|eot_id|>", "<|start_header_id|>assistant<|end_header_id|>\n\n",
                r"<\|\w+\|>"),
    "gemma": ("<bos>", "<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}\n"
              "{{ message.content | trim }}<end_of_turn>\n", "<start_of_turn>model\n",
              r"<bos>|<eos>|<(?:start|end)_of_turn>\w*"),
    "phi": ("", "<|{{ message.role }}|>\n{{ message.content }}<|end|>\n", "<|assistant|>\n", r"<\|\w+\|>"),
    "deepseek": ("<｜begin▁of▁sentence｜>", "<｜{{ message.role | title }}｜>{{ message.content }}", "<｜Assistant｜>",
                 r"<｜[^｜]*｜>"),
    "vicuna": ("A chat. ", "{{ message.role | upper }}: {{ message.content }} ", "ASSISTANT:", r"\b[A-Z]{4,}:"),
    "alpaca": ("", "### {{ 'Instruction' if message.role == 'user' else 'Response' }}:\n{{ message.content }}\n\n",
               "### Response:\n", r"(?m)^.*###.*$"),
    "human and assistant": ("", "\n\n{{ 'Human' if message.role == 'user' else 'Assistant' }}: {{ message.content }}",
                            "\n\nAssistant:", r"\b(?:Human|Assistant|System):"),
}
SPECIAL = ["<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<s>", "</s>", "<|eot_id|>", "<|start_header_id|>",
           "<|end_header_id|>", "<end_of_turn>", "<start_of_turn>", "<bos>", "<eos>", "<｜Assistant｜>", "[SEP]",
           "<think>"]


def build_tokenizer(name, normalised=False):
    """A tokenizer with a template of TEMPLATES; special tokens are matched before or after a normaliser."""
    begin, message, generation_prompt, _ = TEMPLATES[name]
    template = (f"{begin}{{% for message in messages %}}{message}{{% endfor %}}"
                f"{{% if add_generation_prompt %}}{generation_prompt}{{% endif %}}")
    core = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
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
    """The conversations on a harmless text."""
    return query_everything(scripted, "Blue.")


@pytest.fixture(scope="module")
def attacked(scripted, attacks):
    """attack -> the conversations on it."""
    return {text: query_everything(scripted, text) for texts in attacks.values() for text in texts}


@pytest.mark.parametrize("name", TEMPLATES)
def test_one_user_turn_in_every_template(name, plain, attacked):
    tokenizer = build_tokenizer(name)

    def find_turns(conversation):
        return re.findall(TEMPLATES[name][-1], render_messages(tokenizer, conversation))

    wanted = find_turns(plain[0])
    assert wanted and all(find_turns(asked) == wanted for asked in plain)
    for text, conversations in attacked.items():
        assert all([message["role"] for message in asked] == ["user"] for asked in conversations)
        assert all(find_turns(asked) == wanted for asked in conversations), text
    assert any(find_turns(user(f"Blue.\n{text}")) != wanted for text in attacked)  # unquoted attacks make turns


@pytest.mark.parametrize("normalised", [False, True])
def test_judged_text_gives_no_special_token(normalised, plain, attacked, scripted):
    tokenizer = build_tokenizer("chatml", normalised)
    special = set(tokenizer.convert_tokens_to_ids(SPECIAL))

    def find_special(conversation):
        return [token for token in encode_prompt(tokenizer, conversation) if token in special]

    wanted = find_special(plain[0])
    assert len(wanted) == 3
    joined = {text: query_everything(scripted, text) for text in ("".join(SPECIAL), " ".join(SPECIAL).upper())}
    for text, conversations in (attacked | joined).items():
        assert all(find_special(asked) == wanted for asked in conversations), text
    assert sum(find_special(user(text)) != wanted for text in attacked) > 5  # unquoted attacks do


def test_known_special_tokens_that_are_words_are_broken(scripted):
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
