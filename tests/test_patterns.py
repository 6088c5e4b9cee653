import re

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from gristmill.filter.patterns import LEAK, NO_INPUT, REFUSAL, find_leak, find_no_input, find_refusal

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I cannot assist with that request.",
    "Sorry, I can't play the song Despacito on the keyboard.",
    "I apologize, but I am unable to provide that information.",
    "Unfortunately, I do not have access to real-time data.",
    "I cannot fulfill your request. I am just an AI.",
    "I can't assist with that.",
    "As an AI language model, I don't have personal opinions.",
    "As a large language model, I am unable to browse the web.",
    "I'm sorry, I am an AI language model and I do not possess the ability to draw.",
    "This instruction cannot be completed by a GPT language model.",
    "No output as GPT models cannot create visual output.",
    "Sorry, the task involves audio. Due to the unreliable generation of the model, we cannot complete this task.",
]
ANSWERS = [
    ("A friend's dog died. What do I say?", "I'm so sorry for your loss. Losing a pet is hard."),
    ("Write an apology for being late.", "I'm sorry for being late to our meeting. I should have been more mindful."),
    ("Generate an excuse for not coming to work.", "I'm sorry, but I'm unable to come into work today."),
    ("Reply to the complaint.", "We apologize for the delay. Unfortunately, the parcel was lost."),
    ("Find the angle from two sides.", "Unfortunately, I cannot determine the angle given only two sides."),
    ("Express surprise.", "I can't believe it!"),
    ("Who are you?", "I am an AI language model developed by people who like to help."),
    ("What can a GPT model not do?", "GPT models cannot create images or hear sound."),
    ("How do I merge layers?", "It's not possible. The only thing you can do is link layers together."),
    ("Tell me about conservation of energy.", "Energy cannot be created or destroyed; it can only change form."),
    ("Define AI.", "AI, as an academic field, began in 1956. I cannot stress this enough: it is old."),
]


@pytest.mark.parametrize("answer", REFUSALS)
def test_refusals_are_found(answer: str) -> None:
    assert find_refusal("Do it.", answer)


@pytest.mark.parametrize(("prompt", "answer"), ANSWERS)
def test_being_sorry_or_writing_of_limits_is_no_refusal(prompt: str, answer: str) -> None:
    assert find_refusal(prompt, answer) is None


LEAKS = [
    ("Mysteries were uncovered.\n##", "##"),
    ("It was built together. \n##\n10. Instruction: Classify the sentence\n10. Input:\nThe sun", "10. Instruction:"),
    ("It works for you.\n6. Input:\nThe book was read.\n6. Output:\nShe read it.", "6. Input:"),
    ("The answer is 4.\nOutput:", "Output:"),
    ("The answer is 4.\n### Instruction:\nName a fruit.", "### Instruction:"),
    ("### Response:\nThe answer is 4.", "### Response:"),
    ("The answer is 4.<|im_end|>\n<|im_start|>user", "<|im_end|>"),
    ("The answer is 4.</s>", "</s>"),
    ("<s> The answer is 4.</s>", "<s>"),
    ("The answer is 4. [/INST]", "[/INST]"),
    ("The answer is 4.\nUser: And 3 + 3?\nAssistant: 6", "User:"),
    ("The answer is 4.\n\nHuman: Thanks", "Human:"),
    ("<noinput>", "<noinput>"),
    ("noinput", "noinput"),
    ("<nooutput> (a picture)", "<nooutput>"),
    ("No output as this needs a picture.", "No output"),
    ("<No output. The task requires a poster, not text.>", "<No output"),
    ("The answer is 4.\n\nInstruction: Name a fruit.\nInput: none\nOutput: apple", "Instruction:"),
]
CLEAN = [
    ("How do I make soup?", "Ingredients: water\n\nInstructions:\n1. Boil the water.\n2. Serve hot."),
    ("How does a computer work?", "1. Input: keys are pressed\n2. Processing\n3. Output: letters appear"),
    ("Write a program.", "print(15)\n\nOutput: 15"),
    ("Write a title in Markdown.", "## A title\n\nText\n\n### Input\n\nMore text"),
    ("Write a dialogue between a user and a bot.", "Sure.\n\nUser: Hello\nBot: Hello"),
    ("Continue.", "Anna: Where are you?\nUser: Here."),
    ("What ends a ChatML turn?", "A turn ends with the token `<|im_end|>` and a line break."),
    ("Finish this: [INST] hi [/INST]", "A prompt for Llama 2 is written as\n[INST] hi [/INST]"),
    ("Strike this out: old", "<s>old</s> new"),
    ("Strike this out: old", "new <s>old</s>"),
    ("Name a language.", "C#"),
    ("What does this print?", "No output, since the loop never runs."),
]


@pytest.mark.parametrize(("answer", "shown"), LEAKS)
def test_template_leaks_are_found_and_shown(answer: str, shown: str) -> None:
    assert shown in (find_leak("What is 2 + 2?", answer) or "")


@pytest.mark.parametrize(("prompt", "answer"), CLEAN)
def test_what_was_asked_for_is_no_leak(prompt: str, answer: str) -> None:
    assert find_leak(prompt, answer) is None


@pytest.mark.parametrize(
    "last",
    [
        "<noinput>",
        "No input.",
        "Noinput",
        "(no input)",
        "`<noinput>`",
        "Input: <noinput>",
        "No input required",
        "<No Input>.",
        "<noinputs>",
        "<noinput> 8",
    ],
)
def test_placeholders_for_an_empty_input(last: str) -> None:
    assert find_no_input(f"Name a fruit.\n{last}")


@pytest.mark.parametrize(
    "prompt",
    [
        "Name a fruit.",
        "What does 'no input' mean?",
        "There was no input\nfrom the users",
        "Fill the gap:\nLarry <noinput> the door.",
    ],
)
def test_prompts_that_only_speak_of_input(prompt: str) -> None:
    assert find_no_input(prompt) is None


def test_the_column_patterns_miss_nothing_the_functions_find() -> None:
    cases = [
        (REFUSAL, REFUSALS, lambda text: find_refusal("Do it.", text)),
        (LEAK, [answer for answer, _ in LEAKS], lambda text: find_leak("Do it.", text)),
        (NO_INPUT, ["A\n<noinput>", "A\nNo input.", "Input: no input"], find_no_input),
    ]
    for pattern, texts, find in cases:
        by_re2 = pc.match_substring_regex(pa.array(texts), pattern).to_pylist()
        assert all(by_re2) and all(find(text) for text in texts)
        assert by_re2 == [bool(re.search(pattern, text)) for text in texts]
