"""A scripted teacher that fails as models do: cold it repeats itself, hot it rambles, and now and then it declines."""

from random import Random

FACTS = {
    "bread": [
        "Yeast eats the sugar in the flour and breathes out carbon dioxide.",
        "Kneading links the proteins into gluten, an elastic net that holds the gas.",
        "The bubbles swell as the dough rests, so the loaf doubles in size.",
        "In the oven the gas expands once more before the crust sets.",
        "Without yeast, as in matzo, the dough stays flat.",
        "A warm kitchen speeds the yeast up; a refrigerator slows it down.",
    ],
    "egg whites": [
        "Beating unrolls the long proteins of the white.",
        "The unrolled proteins stick to each other around bubbles of air.",
        "A drop of fat from the yolk keeps them apart, and the foam collapses.",
        "Sugar makes the film between bubbles thicker and slower to drain.",
        "Beaten too long, the proteins squeeze out water and the foam turns grainy.",
        "A copper bowl or some lemon juice makes the foam more stable.",
    ],
    "inflation": [
        "Inflation is a rise of prices in general, not of one price.",
        "The same banknote buys a smaller basket than it did last year.",
        "It is measured by the cost of a fixed basket of goods.",
        "More money chasing the same goods pushes prices up.",
        "Central banks raise interest rates to slow it down.",
        "Debts in fixed sums become lighter, and savings melt.",
    ],
    "sales": [
        "A sale empties the shelves before the next season arrives.",
        "Some customers wait for low prices and others will not, so a shop can earn from both.",
        "Unsold stock costs rent and ties up money.",
        "Low prices bring people in, who then buy other things too.",
        "A price that was crossed out makes the new one look small.",
        "Rivals often cut prices in the same week so as not to lose visitors.",
    ],
    "lock": [
        "Inside the cylinder a row of spring-loaded pins blocks the turn.",
        "Each pin is cut in two at its own height.",
        "The right key lifts every cut exactly to the edge of the cylinder.",
        "Then nothing bridges the edge, and the plug can rotate.",
        "A wrong key leaves at least one pin across the edge.",
        "Picking means lifting the pins one at a time while turning gently.",
    ],
    "gears": [
        "Legs work best at about eighty turns of the pedals a minute.",
        "A low gear trades speed for force, which helps uphill.",
        "A high gear moves the bicycle far with each turn on the flat.",
        "The chain joins a front ring and a rear sprocket of different sizes.",
        "The ratio of their teeth says how often the wheel turns for one turn of the pedals.",
        "Changing before the hill keeps the chain under little load.",
    ],
    "mountains": [
        "Wind that meets a slope has to climb it.",
        "Rising air expands, because the pressure is lower up there, and so it cools.",
        "Cold air holds less vapour, so clouds form and drop their water.",
        "Behind the range the air sinks, warms and dries: the rain shadow.",
        "Coasts with a steady sea wind and high hills are among the wettest places.",
        "Seattle is wet and eastern Washington dry for this reason.",
    ],
    "thunder": [
        "A lightning bolt heats its channel to some thirty thousand degrees.",
        "The air there expands faster than sound and makes a shock wave.",
        "Light arrives at once, sound needs about three seconds for a kilometre.",
        "The rumble comes from parts of the channel at different distances.",
        "Hills and clouds send echoes that draw it out.",
        "Counting the seconds after the flash tells how far away it struck.",
    ],
    "leaves": [
        "Chlorophyll makes leaves green, and it is costly to keep.",
        "As the days shorten, the tree takes it apart and stores what it can use.",
        "Yellow carotenoids were there all summer, hidden by the green.",
        "Red anthocyanins are made anew from sugar that is left in the leaf.",
        "A layer of cork closes the stalk until the leaf falls.",
        "Bright days and cool nights give the strongest reds.",
    ],
    "yawn": [
        "Nobody knows for certain; several ideas have evidence.",
        "A yawn may cool the brain by drawing in air and moving blood.",
        "It comes when we grow drowsy or wake, so it may help to change gears.",
        "Seeing someone yawn is catching, above all among friends.",
        "Breathing more oxygen does not stop it, so lack of air is not the cause.",
        "Unborn children yawn too, long before they breathe.",
    ],
}
OPENINGS = {
    "child": ["Imagine you could look inside.", "That is a lovely thing to wonder about.", "Let us find out together."],
    "manager": ["In short:", "The point is simple.", "What matters here:"],
    "student": ["For the exam, keep the chain of causes in mind.", "Start from the cause.", "Three facts answer this."],
}


def reply(messages: list[dict[str, str]], sampling: dict[str, float]) -> str:
    """The answer to the last message; the seed and the temperature of `sampling` decide how good it is."""
    asked = messages[-1]["content"]
    heat = sampling.get("temperature", 1.0)
    random = Random(f"{sampling.get('seed')} {heat} {asked}")
    if random.random() < 0.04:
        return "I'm sorry, but I can't help with that request."
    facts = next((found for word, found in FACTS.items() if word in asked), ["It depends."])
    openings = next((found for word, found in OPENINGS.items() if word in asked), ["Good question."])
    if random.random() > heat:  # cold: the likeliest words again
        return " ".join([openings[0], *facts[:3]])
    said = [random.choice(openings), *random.sample(facts, k=min(len(facts), 1 if "brief" in asked else 3))]
    if random.random() < heat - 0.8:  # hot: no end of it
        said += [random.choice(facts)] * 12
    return " ".join(said)
