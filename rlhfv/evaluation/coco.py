"""COCO's 80 classes in English text: which words name an object of which class, and where they stand.

The reading follows CHAIR (Rohrbach et al., Object Hallucination in Image Captioning, EMNLP 2018): words are made
singular, double words are joined greedily from left to right, and what is left is looked up. As there, a word is
taken for its thing wherever it stands ("an orange wall" names the fruit, "he skis" the skis), so that rates can be
set beside published ones. The table is the studio's own; so is the singular, which knows no part of speech.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise

# Class of COCO: further words for it. The class's own name is always one of its words.
SYNONYMS: Mapping[str, str] = {
    # people and what they carry
    "person": "people, adult, child, grandchild, kid, baby, teenager, student, man, woman, male, female, guy, lady, "
    "gentleman, girl, boy, mother, father, sister, brother, bride, groom, villager, foreigner, pedestrian, "
    "walker, traveler, passenger, rider, driver, biker, bicyclist, skater, skateboarder, skier, snowboarder, camper, "
    "player, pitcher, hunter, cowboy, worker, coworker, baker, chef, doctor, patient, policeman, cop, officer, "
    "soldier, serviceman, politician, buyer, shopper, caller, drinker, thief, offender, trespasser",
    "backpack": "knapsack, back pack",
    "umbrella": "",
    "handbag": "purse, wallet, briefcase, hand bag",
    "tie": "bow, bow tie",
    "suitcase": "suit case, luggage",
    # on wheels, on water, in the air
    "bicycle": "bike, minibike, trike, unicycle",
    "car": "automobile, cab, taxi, taxicab, limo, sedan, coupe, hatchback, jeep, suv, van, minivan",
    "motorcycle": "motorbike, motor bike, motor cycle, moped, scooter",
    "airplane": "aeroplane, plane, air plane, aircraft, airbus, biplane, monoplane, seaplane, jet, jetliner",
    "bus": "minibus, trolley",
    "train": "locomotive, caboose, tramway",
    "truck": "pickup, lorry, hauler, firetruck",
    "boat": "rowboat, sailboat, motorboat, powerboat, speedboat, steamboat, riverboat, houseboat, lifeboat, tugboat, "
    "ferryboat, ferry, canoe, kayak, dinghy, skiff, pontoon, barge, paddleboat, sailboard, yacht, catamaran, "
    "schooner, trawler, freighter, liner, ship, steamship, battleship, vessel, watercraft",
    # in the street
    "traffic light": "traffic signal, stop light, stoplight, street light, streetlight",
    "fire hydrant": "hydrant",
    "stop sign": "",
    "parking meter": "",
    "bench": "pew",
    # animals
    "bird": "fowl, waterfowl, peafowl, seabird, shorebird, songbird, waterbird, blackbird, bluebird, cowbird, "
    "hummingbird, bluejay, buzzard, chickadee, cockatiel, cockatoo, condor, cormorant, crow, duck, egret, falcon, "
    "finch, flamingo, goose, gosling, gull, heron, kingfisher, loon, lorikeet, macaw, magpie, mallard, oriole, "
    "osprey, ostrich, owl, parakeet, parrot, peacock, pelican, pheasant, pigeon, puffin, quail, raven, robin, "
    "rooster, sandpiper, seagull, sparrow, swan, turkey, vulture, warbler, willet, woodpecker",
    "cat": "feline, kitten, tabby",
    "dog": "doggie, doggy, canine, hound, mutt, pup, puppy, beagle, brindle, bulldog, chihuahua, "
    "cocker, collie, corgi, dachshund, doberman, greyhound, husky, labrador, pitbull, poodle, pug, retriever, "
    "rottweiler, schnauzer, sheepdog, spaniel, terrier, weimaraner, whippet",
    "horse": "equine, pony, foal, colt, mare, stallion, racehorse, mustang, bronc, bronco, palomino, clydesdale",
    "sheep": "lamb, ewe, ram, goat",
    "cow": "cattle, calf, heifer, bull, ox, buffalo, holstein, zebu, bison",
    "elephant": "",
    "bear": "panda",
    "zebra": "",
    "giraffe": "",
    # sports
    "frisbee": "",
    "skis": "ski",
    "snowboard": "snow board",
    "sports ball": "ball",
    "kite": "",
    "baseball bat": "",
    "baseball glove": "",
    "skateboard": "skate board",
    "surfboard": "surf board, longboard, shortboard, skimboard, wakeboard",
    "tennis racket": "tennis racquet, racket, racquet",
    # on the table
    "bottle": "",
    "wine glass": "",
    "cup": "",
    "fork": "",
    "knife": "pocketknife",
    "spoon": "",
    "bowl": "container",
    "banana": "",
    "apple": "",
    "sandwich": "sub, burger, hamburger, cheeseburger",
    "orange": "",
    "broccoli": "",
    "carrot": "",
    "hot dog": "hotdog",
    "pizza": "",
    "donut": "doughnut, bagel",
    "cake": "cheesecake, coffeecake, cupcake, pancake, shortcake",
    # indoors
    "chair": "seat, stool",
    "couch": "sofa, settee, loveseat, futon, recliner, chesterfield",
    "potted plant": "houseplant, house plant",
    "bed": "",
    "dining table": "table, coffee table, desk",
    "toilet": "commode, lavatory, potty, urinal",
    "tv": "television, monitor",
    "laptop": "laptop computer, notebook, netbook, macbook, lenovo, computer",
    "mouse": "",
    "remote": "remote control",
    "keyboard": "",
    "cell phone": "phone, cellphone, mobile phone, smartphone, smart phone, telephone, iphone",
    "microwave": "",
    "oven": "stove, stovetop, stove top, stove top oven",
    "toaster": "",
    "sink": "",
    "refrigerator": "fridge, freezer",
    "book": "",
    "clock": "",
    "vase": "",
    "scissors": "",
    "teddy bear": "teddybear",
    "hair drier": "hair dryer, hairdrier, hairdryer",
    "toothbrush": "tooth brush",
}
CLASSES: tuple[str, ...] = tuple(SYNONYMS)

# "a baby elephant" and "a passenger train" name no person; an animal or a cub that is no class of COCO takes the word
# "baby" with it. CHAIR knows "passenger" before a jet and a train only.
_ANIMALS = "animal, cub, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe".split(", ")
_CARRIERS = "jet, train, airplane, plane, aircraft, bus, car, van, boat, ship, ferry, vessel".split(", ")
_NOTHING = ("home plate", "train track")  # no plate, and no train

_IRREGULAR = {
    "children": "child",
    "grandchildren": "grandchild",
    "geese": "goose",
    "mice": "mouse",
    "oxen": "ox",
    "feet": "foot",
    "teeth": "tooth",
    "buses": "bus",
    "busses": "bus",
    "minibuses": "minibus",
    "airbuses": "airbus",
    "thieves": "thief",
    "skis": "ski",
    "taxis": "taxi",
    "broccolis": "broccoli",
    "corgis": "corgi",
    "zebus": "zebu",
    "calves": "calf",
    "halves": "half",
    "leaves": "leaf",
    "loaves": "loaf",
    "scarves": "scarf",
    "shelves": "shelf",
    "wolves": "wolf",
}
_NOT_PLURAL = frozenset("scissors gas has was lens always perhaps sometimes".split())
_NOT_MEN = frozenset("abdomen acumen omen ramen regimen specimen stamen".split())
_E_BEFORE_S = frozenset(
    "ties pies lies dies doggies collies magpies cookies movies selfies hoodies brownies smoothies canoes shoes "
    "toes".split()
)

# Words of Latin letters and digits with their combining marks, joined by hyphens; other scripts have no word here.
_LETTER = "0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
_TOKEN = re.compile(rf"(?:[{_LETTER}][\u0300-\u036f]*)+(?:[-\u2010\u2011](?:[{_LETTER}][\u0300-\u036f]*)+)*")
_HYPHEN = re.compile("[-\u2010\u2011]")


@dataclass(frozen=True)
class Mention:
    """An object named in a text: half-open code point span, the `word` that stands there, its class, and the table's
    `form` of it ("men" is "man", "baby birds" is "bird"), by which repeated words are known."""

    start: int
    end: int
    word: str
    category: str
    form: str


def singular(word: str) -> str:
    """The singular of a lower-case English noun; a word that is none already comes back as it is."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("knives"):
        return word[:-3] + "fe"
    if word.endswith("men") and len(word) > 3 and word not in _NOT_MEN:
        return word[:-2] + "an"
    if word == "men":
        return "man"
    if not word.endswith("s") or len(word) < 3 or word.endswith(("ss", "us", "is")) or word in _NOT_PLURAL:
        return word
    if word in _E_BEFORE_S:
        return word[:-1]
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "zes", "ches", "shes", "oes")):
        return word[:-2]
    return word[:-1]


def find_mentions(text: str) -> list[Mention]:
    """The objects of COCO's classes that a text names, in order, each time that it names them.

    Longest entries first ("stove top oven", "hot dog", "dog"), greedily from left to right; only white space or one
    hyphen may stand between the parts of a double word. Once a text names a toilet, a "seat" in it is no chair.
    """
    tokens = [(match.start(), match.end(), _key(match.group())) for match in _TOKEN.finditer(text)]
    table, longest = _table()
    found = []
    first = 0
    while first < len(tokens):
        for past in range(min(first + longest.get(tokens[first][2], 1), len(tokens)), first, -1):
            form, category = table.get(" ".join(key for _, _, key in tokens[first:past]), ("", ""))
            if form and _stand_together(text, tokens[first:past]):
                break
        if category:
            start, end = tokens[first][0], tokens[past - 1][1]
            found.append(Mention(start, end, text[start:end], category, form))
        first = past
    if any(mention.form == "toilet" for mention in found):
        found = [mention for mention in found if mention.form != "seat"]
    return found


def classes_in(texts: Iterable[str]) -> frozenset[str]:
    """The classes of all objects that the texts name."""
    return frozenset(mention.category for text in texts for mention in find_mentions(text))


def forms() -> frozenset[str]:
    """All words and double words that name an object, as they are looked up: lower case, each word singular."""
    return frozenset(key for key, (_, category) in _table()[0].items() if category and "-" not in key)


@lru_cache(2**16)
def _key(token: str) -> str:
    return "-".join(singular(word) for word in _HYPHEN.split(token.lower()))


def _stand_together(text: str, tokens: list[tuple[int, int, str]]) -> bool:
    return all(text[before[1] : after[0]].isspace() for before, after in pairwise(tokens))


@cache
def _table() -> tuple[dict[str, tuple[str, str]], dict[str, int]]:
    """For each entry its form and class ("" for what names nothing); for a first word, the words of its longest."""
    table = {}
    for category, synonyms in SYNONYMS.items():
        for form in (category, *filter(None, synonyms.split(", "))):
            table[" ".join(map(singular, form.split()))] = (form, category)
    for name in _ANIMALS:
        table |= dict.fromkeys((f"baby {name}", f"adult {name}"), (name, name if name in SYNONYMS else ""))
    for name in _CARRIERS:
        table[f"passenger {name}"] = (name, table[name][1])
    table |= {"toilet seat": ("toilet", "toilet"), "bow tie": ("tie", "tie")}
    table |= {name: (name, "") for name in _NOTHING}
    table |= {key.replace(" ", "-"): entry for key, entry in table.items()}
    longest: dict[str, int] = {}
    for key in table:
        words = key.split()
        longest[words[0]] = max(longest.get(words[0], 1), len(words))
    return table, longest
