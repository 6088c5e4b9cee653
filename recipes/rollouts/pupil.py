"""A scripted pupil: sums of two numbers are easy for it, carries are not, and it checks its result when in the mood."""

import re
from random import Random


def reply(messages: list[dict[str, str]], sampling: dict[str, float]) -> str:
    """A solution to the last message; the seed decides whether it slips."""
    asked = messages[-1]["content"]
    numbers = [int(each) for each in re.findall(r"\d+", asked)]
    draw = Random(f"{sampling.get('seed')} {asked}")
    total, said = numbers[0], []
    for number in numbers[1:]:
        carries = total % 10 + number % 10 > 9
        result = total + number - (10 if carries and draw.random() < 0.5 else 0)
        said.append(f"{total} + {number} = {result}.")
        total = result
    if draw.random() < 0.3:
        said = said[-1:]
    if draw.random() < 0.4:
        said.append(f"Check: {total} - {numbers[-1]} = {total - numbers[-1]}.")
    if draw.random() < 0.1:
        return "I would have to think about that."
    return " ".join([*said, f"The answer is {total}."])
