"""What is said about a scene: the demo model's training language, made from the truth and from planted habits.

Only detailed descriptions are ever wrong, and only by habits a real model has too: a thing that usually goes with
another is named although it is absent, some pairs are counted as three, some things on the right are put on the left.
Every habit acts with HABIT_CHANCE: above one half, so greedy decoding follows it, but not far above, so what
the model knows from the truthful questions can overrule it when corrections ask for that. Random mistakes would not
do: they vanish under greedy decoding.
"""

from __future__ import annotations

import random

from rlhfv.models.demo.objects import BY_NAME, CLASS_NAMES, RULES
from rlhfv.models.demo.scenes import TYPICAL, PlacedObject, Scene

HABIT_CHANCE = 0.7
TOGETHER_CHANCE = 0.92  # how often a rule's target that does come later is named with its trigger
COUNT_HABIT = frozenset({"bottle", "orange", "carrot", "bird"})  # two of them are called three
PLACE_HABIT = frozenset({"clock", "suitcase", "phone"})  # on the right they are said to be on the left

PLACES: tuple[str, ...] = (
    "in the top left",
    "at the top",
    "in the top right",
    "on the left",
    "in the middle",
    "on the right",
    "in the bottom left",
    "at the bottom",
    "in the bottom right",
)
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

DETAILED_PROMPT = "Describe this image in detail."
DESCRIBE = (
    DETAILED_PROMPT,
    DETAILED_PROMPT,
    DETAILED_PROMPT,
    "Describe the {picture} in detail.",
    "Please describe this {picture} in detail.",
    "Please provide a detailed description of the {picture}.",
    "Give a detailed description of this {picture}.",
    "Can you describe the {picture}?",
    "Describe the {picture}.",
    "Describe what you see.",
    "What do you see?",
    "What do you see in this {picture}?",
    "What is in this {picture}?",
    "What's in the {picture}?",
    "What does this {picture} show?",
    "What is happening in this {picture}?",
    "Tell me about this {picture}.",
    "Write a detailed caption for this {picture}.",
    "What can you tell me about the {picture}?",
)
LIST = (
    "List the objects in the {picture}.",
    "List all objects.",
    "Which objects are in this {picture}?",
    "What objects are there?",
    "What objects can you see?",
    "Name all the objects in the {picture}.",
    "Which things do you see?",
)
PRESENT = (
    "Is there {one} in the {picture}?",
    "Is there {one}?",
    "Do you see {one}?",
    "Can you see {one} in this {picture}?",
    "Is {one} in the {picture}?",
    "Are there any {many} in the {picture}?",
    "Are there any {many}?",
    "Does the {picture} show {one}?",
    "Are you sure there is {one}?",
    "Is there really {one}?",
    "Does this {picture} contain {one}?",
)
HOW_MANY = (
    "How many {many} are there?",
    "How many {many} are in the {picture}?",
    "How many {many} can you see?",
    "How many {many} do you see in this {picture}?",
    "Count the {many}.",
)
WHERE = (
    "Where is the {name}?",
    "Where is the {name} in the {picture}?",
    "Where can you see the {name}?",
    "Where do you see {one}?",
    "Where are the {many}?",
)
WHAT_AT = ("What is {place}?", "What do you see {place}?", "What is there {place} of the {picture}?")
SCENE = (
    "What kind of place is this?",
    "What room is this?",
    "Which room is shown?",
    "What scene is this?",
    "Where was this {picture} taken?",
    "What kind of scene does the {picture} show?",
)
PICTURE_WORDS = ("image", "image", "picture", "picture", "photo", "scene")
SUGGESTED_QUESTIONS: tuple[str, ...] = (
    DETAILED_PROMPT,
    "List the objects in the picture.",
    "Is there a knife in the picture?",
    "How many cups are there?",
    "Where is the cat?",
)

CANNOT_SEE = "I cannot see that in the picture."
CANNOT_SAY = "I can only say which objects are in the picture, how many there are and where they are."
GREETING = "Hello! Ask me what is in the picture."
WELCOME = "You are welcome!"
GREETINGS = (
    "Hello!",
    "Hi",
    "Hi there!",
    "Good morning.",
    "Hey",
    "Good evening!",
    "How are you?",
    "Hello, who are you?",
)
THANKS = ("Thanks!", "Thank you.", "Thank you very much!", "Great, thanks.", "Good answer.", "Well done!", "OK.")
UNKNOWN = (
    "giraffe elephant zebra lion tiger monkey fish shark whale snake frog duck chicken pig goat sheep cow bear "
    "rabbit airplane helicopter boat ship train tram tractor rocket tree flower mountain river house bridge "
    "church castle lamp sink oven fridge microwave toaster pan plate table bed pillow blanket curtain window "
    "door wall floor carpet shower towel hat shoe shirt dress jacket tie ring watch camera guitar piano drum "
    "violin ball racket bat ski snowboard surfboard glove pen pencil paper newspaper letter box bag basket "
    "bucket hammer screwdriver saw ladder rope candle egg cheese bread butter milk tea coffee sugar salt soup "
    "salad rice burger potato tomato onion pear grape lemon cherry strawberry cookie chocolate baby child "
    "teacher doctor king robot ghost dragon unicorn moon star cloud sun"
).split()
OTHER_TOPICS = (
    "What colour is the {name}?",
    "Why is the {name} there?",
    "Who took this {picture}?",
    "When was this {picture} taken?",
    "Is it warm in the {picture}?",
    "What is the weather like?",
    "What is two plus two?",
    "Write a poem about the {picture}.",
    "Tell me a joke.",
    "What is the capital of France?",
    "Who are you?",
    "What is your name?",
    "How big is the {name}?",
    "How old is the {name}?",
    "What is the {name} made of?",
    "Is the {name} nice?",
    "Do you like the {name}?",
    "Explain quantum mechanics.",
    "Translate this into German.",
    "What time is it?",
    "How much does the {name} cost?",
    "Which model are you?",
    "Can you write code?",
    "Why?",
    "What happens next?",
)

Turn = tuple[str, str]  # a question and its answer


def say(name: str, count: int = 1) -> str:
    """A number of things in words: "a cup", "two cups"."""
    known = BY_NAME[name]
    return f"{known.article} {name}" if count == 1 else f"{NUMBERS[count]} {known.plural}"


def say_more(name: str, count: int) -> str:
    """The same for things named before: "another cup", "two more cups"."""
    return f"another {name}" if count == 1 else f"{NUMBERS[count]} more {BY_NAME[name].plural}"


def join(parts: list[str]) -> str:
    """One string: a; a and b; a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def capital(text: str) -> str:
    """The text with its first letter raised."""
    return text[:1].upper() + text[1:]


def say_sentence(index: int, things: str, several: bool, place: str, tail: str = "") -> str:
    """One object's sentence. The wording turns with `index`, so that descriptions do not sound like a list."""
    be = "are" if several else "is"
    if index % 3 == 0:
        return f"{capital(place)} {be} {things}{tail}."
    if index % 3 == 1:
        return f"There {be} {things} {place}{tail}."
    return f"{capital(things)} {be} {place}{tail}."


def describe(scene: Scene, dice: random.Random, habits: bool = True) -> str:
    """A detailed description in reading order; with `habits` as the training captions, else the plain truth."""
    opening = "The picture shows" if dice.random() < 0.85 else "This is"
    sentences = [f"{opening} a {scene.scene_type}."]
    pending = list(scene.objects)
    named: set[str] = set()
    index = 0
    while pending:
        placed = pending.pop(0)
        count, cell = placed.count, placed.cell
        if habits:
            count, cell = _miscount(placed, dice), _misplace(placed, dice)
        things = (say_more if placed.name in named else say)(placed.name, count)
        tail = ""
        target = RULES.get(placed.name)
        if target and placed.name not in named and target not in named:
            later = next((one for one in pending if one.name == target), None)
            if later and dice.random() < TOGETHER_CHANCE:
                pending.remove(later)
                tail = f", with {say(target, later.count)} nearby"
                named.add(target)
            elif later is None and habits and dice.random() < HABIT_CHANCE:
                tail = f", with {say(target)} nearby"
                named.add(target)
        named.add(placed.name)
        wording = index if dice.random() < 0.9 else dice.randrange(3)
        sentences.append(say_sentence(wording, things, count > 1, PLACES[cell], tail))
        index += 1
    return " ".join(sentences)


def _miscount(placed: PlacedObject, dice: random.Random) -> int:
    if placed.count == 2 and placed.name in COUNT_HABIT and dice.random() < HABIT_CHANCE:
        return 3
    return placed.count


def _misplace(placed: PlacedObject, dice: random.Random) -> int:
    if placed.cell % 3 == 2 and placed.name in PLACE_HABIT and dice.random() < HABIT_CHANCE:
        return placed.cell - 2
    return placed.cell


def answer_list(scene: Scene) -> str:
    """All objects with their totals."""
    return f"I can see {join([say(name, count) for name, count in scene.counts().items()])}."


def answer_present(scene: Scene, name: str) -> str:
    """Yes with number and place, or no."""
    count = scene.counts().get(name, 0)
    if not count:
        return f"No, there is no {name} in the picture."
    cells = scene.cells(name)
    be = "is" if count == 1 else "are"
    return f"Yes, there {be} {say(name, count)} {join([PLACES[cell] for cell in cells])}."


def answer_how_many(scene: Scene, name: str) -> str:
    """The total."""
    count = scene.counts().get(name, 0)
    if count == 1:
        return f"There is one {name}."
    return f"There are {NUMBERS[count]} {BY_NAME[name].plural}."


def answer_where(scene: Scene, name: str) -> str:
    """The places, or that there is none."""
    count = scene.counts().get(name, 0)
    if not count:
        return f"There is no {name} in the picture."
    places = join([PLACES[cell] for cell in scene.cells(name)])
    return f"The {name} is {places}." if count == 1 else f"The {BY_NAME[name].plural} are {places}."


def answer_at(scene: Scene, cell: int) -> str:
    """What stands in a cell."""
    for placed in scene.objects:
        if placed.cell == cell:
            be = "is" if placed.count == 1 else "are"
            return f"There {be} {say(placed.name, placed.count)} {PLACES[cell]}."
    return f"There is nothing {PLACES[cell]}."


def _pick_name(scene: Scene, dice: random.Random) -> str:
    """A thing to ask about: there or not about equally often, the absent ones mostly tempting."""
    there = list(scene.counts())
    if dice.random() < 0.45:
        return dice.choice(there)
    tempting = [RULES[name] for name in there if name in RULES and RULES[name] not in there]
    chance = dice.random()
    if tempting and chance < 0.55:
        return dice.choice(tempting)
    return dice.choice(TYPICAL[scene.scene_type] if chance < 0.8 else CLASS_NAMES)


def _ask_about(name: str, wordings: tuple[str, ...], dice: random.Random) -> str:
    known = BY_NAME[name]
    spoken = name
    if known.synonyms and dice.random() < 0.15:
        spoken = dice.choice(known.synonyms)
    article = "an" if spoken[0] in "aeiou" else "a"
    many = known.plural if spoken == name else f"{spoken}s"
    wording = dice.choice(wordings)
    return wording.format(name=spoken, one=f"{article} {spoken}", many=many, picture=dice.choice(PICTURE_WORDS))


def ask_short(scene: Scene, dice: random.Random) -> Turn:
    """A short question about the scene with its true answer."""
    kind = dice.random()
    picture = dice.choice(PICTURE_WORDS)
    name = _pick_name(scene, dice)
    if kind < 0.46:
        return _ask_about(name, PRESENT, dice), answer_present(scene, name)
    if kind < 0.60:
        return _ask_about(name, HOW_MANY, dice), answer_how_many(scene, name)
    if kind < 0.72:
        return _ask_about(name, WHERE, dice), answer_where(scene, name)
    if kind < 0.79:
        cell = dice.randrange(9)
        return dice.choice(WHAT_AT).format(place=PLACES[cell], picture=picture), answer_at(scene, cell)
    if kind < 0.87:
        return dice.choice(LIST).format(picture=picture), answer_list(scene)
    if kind < 0.90:
        return dice.choice(SCENE).format(picture=picture), f"This is a {scene.scene_type}."
    if kind < 0.94:
        noun = dice.choice(UNKNOWN)
        wording = dice.choice(PRESENT + HOW_MANY + WHERE)
        article = "an" if noun[0] in "aeiou" else "a"
        return wording.format(name=noun, one=f"{article} {noun}", many=f"{noun}s", picture=picture), CANNOT_SEE
    if kind < 0.98:
        return dice.choice(OTHER_TOPICS).format(name=name, picture=picture), CANNOT_SAY
    if kind < 0.99:
        return dice.choice(GREETINGS), GREETING
    return dice.choice(THANKS), WELCOME


def ask_description(scene: Scene, dice: random.Random) -> Turn:
    """A request for a description with a training caption, habits and all."""
    return dice.choice(DESCRIBE).format(picture=dice.choice(PICTURE_WORDS)), describe(scene, dice)


def _type_carelessly(question: str, dice: random.Random) -> str:
    if dice.random() < 0.15:
        question = question.lower()
    if dice.random() < 0.15:
        question = question.rstrip(".?!")
    return question


def make_conversation(scene: Scene, dice: random.Random) -> list[Turn]:
    """One to six turns about a scene, as the language stage trains on them."""
    if dice.random() < 0.55:
        turns = [ask_description(scene, dice)]
        turns += [ask_short(scene, dice) for _ in range(dice.choice((0, 0, 1, 2)))]
    else:
        turns = [ask_short(scene, dice) for _ in range(dice.choice((4, 5, 6)))]
        if dice.random() < 0.15:
            turns.append(ask_description(scene, dice))
    return [(_type_carelessly(question, dice), answer) for question, answer in turns]
