"""The Alpaca prompt template, word for word, in the parts that the tiny tokenizer knows as tokens.

Source: https://github.com/tatsu-lab/stanford_alpaca#data-release
"""

_REQUEST = "Write a response that appropriately completes the request.\n\n### Instruction:\n"

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. " + _REQUEST
)
WITHOUT_INPUT = "Below is an instruction that describes a task. " + _REQUEST
INPUT = "\n\n### Input:\n"
RESPONSE = "\n\n### Response:\n"

FIXED_PARTS = (WITH_INPUT, WITHOUT_INPUT, INPUT, RESPONSE)


def prompt(instruction: str, input: str = "") -> str:
    """What the model reads before it answers; the input's section is left out where it is empty."""
    if input:
        return WITH_INPUT + instruction + INPUT + input + RESPONSE
    return WITHOUT_INPUT + instruction + RESPONSE
