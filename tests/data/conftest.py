"""Tokenizers built in code, one of each habit: Llama-style (BOS), encoder ([CLS] and [SEP]), GPT-style (nothing)."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXT = ["Human: What is the capital of France?\n\nAssistant: The capital of France is Paris, on the Seine."] * 4

LLAMA_TEMPLATE = (
    "{{ bos_token }}{% if strftime_now is defined %}Today: {{ strftime_now('%d %b %Y') }}\n{% endif %}"
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] | trim }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def train_byte_level(specials, single=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=specials,
                                  show_progress=False)
    )
    if single:
        pairs = [(token, tokenizer.token_to_id(token)) for token in specials if token in single]
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=pairs)
    return tokenizer


@pytest.fixture
def llama():
    """BOS added by the tokenizer and written by the template, which also asks for today's date."""
    tokenizer = train_byte_level(["<s>", "</s>", "<pad>"], "<s> $A")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        chat_template=LLAMA_TEMPLATE,
    )


@pytest.fixture
def encoder():
    """[CLS] text [SEP], lower-cased words, no template of its own."""
    tokenizer = train_byte_level(["[PAD]", "[CLS]", "[SEP]"], "[CLS] $A [SEP]")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
    )


@pytest.fixture
def gpt():
    """Nothing added, no template of its own, an end-of-text token."""
    tokenizer = train_byte_level(["<|end|>", "<pad>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<pad>")


@pytest.fixture(params=["llama", "encoder", "gpt"])
def any_tokenizer(request):
    """Each tokenizer in turn, with the default template where it has none."""
    from rmkit.data.chat_template import set_default_template

    tokenizer = request.getfixturevalue(request.param)
    set_default_template(tokenizer)
    return tokenizer
