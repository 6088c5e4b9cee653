"""What refusals, template leaks and placeholders look like in English instruction data.

Each `find_…` takes the texts of one row, without white space at their ends, and returns the text that gives the
defect away, or None. Beside each stands the pattern that a whole column is searched with first: RE2 syntax that
Python's `re` reads alike, matching at least every text its function can find something in.

Sources: the wording of OpenAI's and Meta's models in Alpaca (https://github.com/tatsu-lab/stanford_alpaca), the
defects its cleaners list (https://github.com/gururise/AlpacaDataCleaned), the stop strings of the chat templates in
use (ChatML, Llama 2 and 3, Gemma, DeepSeek, Alpaca, Vicuna). Not covered: refusals that open with something else, and
other languages.
"""

import re

_CANNOT = (
    r"(?:can ?not|can['’]?t|could ?n['’]t|could not|won['’]t|will not|(?:am|are) unable to|['’](?:m|re) unable to|"
    r"(?:am|are|['’]m|['’]re) not (?:able|allowed|programmed|designed) to)"
)
_LACK = (
    r"(?:(?:do not|don['’]t) (?:currently )?(?:have|possess) (?:the (?:ability|capability|necessary|required)|"
    r"access|(?:any )?real[- ]time|enough (?:information|context|data)|"
    r"any (?:information|context) (?:about|on|regarding)|personal|physical))"
)
_SERVE = (
    r"(?:access|answer|assist|browse|compile|complete|comply|create|describe|discuss|display|do (?:this|that)|"
    r"draw|engage|execute|fulfil+|generate|give|help|make|offer|open|perform|play|process|produce|provide|"
    r"recognize|recommend|render|respond|retrieve|search|share|show|suggest|summarize|support|translate|view|"
    r"write)\b"
)
_SORRY = (
    r"(?:(?:i['’]?m|i am|we are|we['’]re)? ?(?:very |so |really |truly )?sorry|(?:my )?apologies|i apologi[sz]e|"
    r"unfortunately)"
)
_AI = (
    r"(?:ai|artificial intelligence|(?:large )?language model|llm|chatbot|virtual assistant|digital assistant|"
    r"computer program|gpt(?:-\d)?)\b"
)
_NOT = (
    r"(?:can ?not|can['’]?t|do not|don['’]t|does not|am not|['’]m not|is not|unable|lack|have no|not (?:able|capable))"
)

_REFUSALS = [
    # I'm sorry, but I can't help with that. Unfortunately, as an assistant I do not have access to …
    rf"^{_SORRY}[,.!;:]* ?(?:but|however|as)?,? ?(?:[^.\n]{{0,60}}?[, ])?"
    rf"(?:i|we) ?(?:{_CANNOT} (?:\w+ )?{_SERVE}|{_LACK})",
    # I cannot fulfil this request.
    rf"^(?:i|we) ?{_CANNOT} (?:\w+ )?(?:assist|help|comply|engage|fulfil+|support)(?: you)?"
    r"(?: with| in| to| this| that| your| the| such|\.|$)",
    rf"^(?:i|we) ?{_CANNOT} (?:\w+ )?{_SERVE} "
    r"(?:that|this|any|such|the (?:request|instruction|task|output|image|link|given))",
    # As an AI language model, I do not have feelings, …
    rf"^(?:[^.\n]{{0,80}}\b)?as an? {_AI}[^.\n]{{0,60}}?\bi ?(?:[a-z]+ )?{_NOT}",
    # I'm sorry, I am an AI and do not …
    rf"^(?:{_SORRY}[,.]? ?(?:but )?)?i ?(?:['’]m|am) (?:just |only )?an? {_AI}[^.\n]{{0,80}}{_NOT}",
]
_ABOUT_MODELS = [
    # This type of task cannot be completed by a GPT model. Not quoted when the prompt asks about models.
    rf"^[^.\n]{{0,80}}\b(?:gpt(?:-\d)?|language|ai)(?: language)? models? "
    rf"(?:{_CANNOT}|is (?:unable|not able|not capable|incapable))",
    r"^[^.\n]{0,40}\b(?:this|the|that) (?:(?:type|kind) of )?(?:task|instruction|request|prompt)[^.\n]{0,40} "
    r"(?:cannot|can['’]t|can not|is not able to|is not possible to) (?:be )?"
    r"(?:complet|fulfil|perform|execut|process|done|answer|generat)",
    r"^[^.\n]{0,120}[.,]? ?due to the unreliable generation of the model",
    r"^[^.\n]{0,40}(?:not (?:possible|feasible)|impossible) "
    r"(?:for|with|as|by|to [a-z ]{0,40}(?:with|using|as)) an? (?:gpt|language model|ai )",
]
REFUSAL = "(?i)" + "|".join(_REFUSALS + _ABOUT_MODELS)
HEAD = 300
"""Refusals are looked for in this many characters at the beginning of the answer."""
_MODELS = re.compile(r"(?i)\bgpt|language model|\bai\b|artificial intelligence|chatbot|\bllms?\b")
_REFUSAL = re.compile("(?i)" + "|".join(_REFUSALS))
_ABOUT = re.compile("(?i)" + "|".join(_ABOUT_MODELS))


def find_refusal(prompt: str, answer: str) -> str | None:
    """The words with which an answer declines or talks of itself as a program, at its beginning.

    Being sorry is not enough: what is declined must be the request itself (cannot help, provide, access, …).
    """
    head = answer[:HEAD]
    found = _REFUSAL.search(head)
    if not found and not _MODELS.search(prompt):
        found = _ABOUT.search(head)
    return found.group(0) if found else None


_TOKEN = (
    r"(?:<\|(?:im_start|im_end|im_sep|endoftext|eot_id|eom_id|start_header_id|end_header_id|begin_of_text|end_of_text|"
    r"user|assistant|system|end|endofprompt)\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<｜[^｜\n]{1,30}｜>)"
)
_LEAKS = [
    # the next example of a numbered list of tasks
    r"\n[ \t]*#*[ \t]*\d{1,3}[.)] ?Instructions?: ?[^\s]",
    r"\n[ \t]*\d{1,3}\. ?Input: ?(?:\n|[^\n]*\n)(?s:.*?)\d{1,3}\. ?Output: ?(?:\n|$)",
    # a marker left at the end: ##
    r"(?:\n[ \t]*|[.!?][ \t]*)#{2,}$",
    # a label of the template with nothing after it
    r"\n[ \t]*(?:#{2,} ?)?(?:\d{1,3}\. ?)?"
    r"(?:Instruction|Input|Output|Response|Human|User|Assistant|USER|ASSISTANT) ?:$",
    r"(?:^|\n)[ \t]*#{2,} ?(?:Instruction|Response|Human|Assistant|User|HUMAN|ASSISTANT|USER) ?:",
    # the template's own tokens, not quoted in prose
    rf"(?:^|\n|[\w.!?)}}] ?){_TOKEN}",
    rf"{_TOKEN}$",
    r"^<s>|</s>$",
    # a placeholder for an empty input
    r"(?i:<\\? ?no[ _-]?(?:in|out)put\b[^>\n]{0,60}>)",
    r"(?:^|\n)(?i:no(?:in|out)put)[.\s]*(?:\n|$)",
]
_TURN = r"\n[ \t]*(?:Human|HUMAN|User|USER) ?: ?\S"
_TASK = r"\n[ \t]*(?:Instruction|Task) ?: ?[^\n]+\n(?s:.*?)\n?[ \t]*Output ?:"
_NOTHING = r"^(?i:no output)\b"
LEAK = "|".join([*_LEAKS, _TURN, _TASK, _NOTHING])
_LEAK = re.compile("|".join(_LEAKS))
_CONTINUED = re.compile(f"{_TURN}|{_TASK}|{_NOTHING}")
_ASKED = re.compile(
    r"(?i)dialog|conversation|\bchat|script|transcript|interview|role-?play|scene|skit|discussion|interaction|\buser|"
    r"\bhuman|\bbot\b|assistant|instruction|\btask|\binput|\boutput|example|prompt|template|\bgpt|\bcode|print|"
    r"program|console|function"
)
_LABEL = re.compile(r"^\W*[A-Z][\w .'()-]{0,30}: ?")


def find_leak(prompt: str, answer: str) -> str | None:
    """The piece of a prompt or chat template in an answer.

    A piece that the prompt has too was asked for. A further turn (`User: …`), a further task (`Instruction: … Output:`)
    and a bare `No output` count only in an answer that neither begins with a label itself nor was asked for talk,
    tasks, programs or examples.
    """
    found = _LEAK.search(answer)
    if not found and not _LABEL.match(answer) and not _ASKED.search(prompt):
        found = _CONTINUED.search(answer)
    text = found.group(0).strip() if found else ""
    if text in {"<s>", "</s>"} and "<s>" in answer and "</s>" in answer:
        text = text if answer.startswith("<s>") and answer.endswith("</s>") else ""  # else HTML for struck out
    return text[:200] if text and (len(text) < 3 or text not in prompt or "noinput" in text.lower()) else None


_NO = r"no[ _-]?input(?: (?:is )?(?:required|needed|necessary|provided|given|specified|available|found|applicable))?"
_MARKS = r"[\s<>()\[\]{}\"'“”‘’`.,:;?*/\\_0-9-]*"
NO_INPUT = (
    rf"(?i)(?:^|\n){_MARKS}(?:\d{{1,3}}\. ?)?(?:input ?:)?{_MARKS}{_NO}{_MARKS}$|<\\? ?no[ _-]?input[a-z]?{_MARKS}$"
)
_NO_INPUT = re.compile(NO_INPUT)


def find_no_input(prompt: str) -> str | None:
    """The placeholder for an empty input (`<noinput>`, `No input.`) that ends a prompt."""
    found = _NO_INPUT.search(prompt)
    return found.group(0).strip() if found else None
