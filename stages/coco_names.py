"""COCO's 80 categories and the words that captions have for them."""

from collections.abc import Mapping

# fmt: off
COCO_WORDS: Mapping[str, tuple[str, ...]] = {
    "person": (
        "people", "man", "woman", "boy", "girl", "child", "kid", "baby", "toddler", "infant", "adult", "teen",
        "teenager", "youth", "guy", "lady", "gentleman", "gentlemen", "dude", "male", "female", "human", "folk",
        "someone", "individual", "friend", "mother", "mom", "father", "dad", "parent", "son", "daughter", "brother",
        "sister", "husband", "wife", "bride", "groom", "grandmother", "grandfather", "player", "batter", "hitter",
        "pitcher", "catcher", "umpire", "referee", "fielder", "outfielder", "infielder", "goalie", "goalkeeper",
        "teammate", "athlete", "runner", "jogger", "swimmer", "skier", "snowboarder", "skater", "skateboarder",
        "surfer", "boarder", "wakeboarder", "windsurfer", "biker", "bicyclist", "cyclist", "motorcyclist", "rider",
        "racer", "equestrian", "jockey", "cowboy", "cowgirl", "driver", "passenger", "pedestrian", "commuter",
        "traveler", "traveller", "tourist", "visitor", "hiker", "climber", "shopper", "customer", "diner", "guest",
        "spectator", "onlooker", "bystander", "worker", "employee", "chef", "cook", "baker", "waiter", "waitress",
        "server", "bartender", "vendor", "farmer", "fisherman", "hunter", "shepherd", "officer", "coach", "policeman",
        "policewoman", "cop", "fireman", "firefighter", "soldier", "sailor", "pilot", "guard", "doctor", "nurse",
        "dentist", "teacher", "student", "pupil", "businessman", "businesswoman", "musician", "singer", "guitarist",
        "performer", "dancer", "actor", "actress", "artist", "photographer", "bather", "sunbather",
    ),
    "bicycle": ("bike", "cycle", "tricycle"),
    "car": (
        "automobile", "auto", "sedan", "suv", "jeep", "taxi", "cab", "taxicab", "limousine", "limo", "minivan", "van",
        "convertible", "hatchback", "station wagon", "vehicle",
    ),
    "motorcycle": ("motorbike", "motor bike", "bike", "cycle", "moped", "scooter", "motor scooter", "dirt bike"),
    "airplane": (
        "plane", "aeroplane", "aircraft", "jet", "airliner", "jetliner", "jumbo jet", "seaplane", "biplane",
    ),
    "bus": ("double decker", "double-decker", "coach", "minibus", "trolley", "vehicle"),
    "train": ("locomotive", "subway", "tram", "trolley", "streetcar", "railcar", "monorail"),
    "truck": ("lorry", "pickup", "semi", "trailer", "van", "firetruck", "fire engine", "vehicle"),
    "boat": (
        "ship", "sailboat", "sail boat", "rowboat", "row boat", "speedboat", "motorboat", "canoe", "kayak", "yacht",
        "ferry", "gondola", "raft", "barge", "vessel", "dinghy", "catamaran", "tugboat",
    ),
    "traffic light": ("traffic signal", "stoplight", "stop light", "signal light"),
    "fire hydrant": ("hydrant", "fire plug"),
    "stop sign": ("stopsign",),
    "parking meter": ("meter",),
    "bench": (),
    "bird": (
        "seagull", "gull", "duck", "duckling", "mallard", "goose", "geese", "swan", "pigeon", "dove", "parrot",
        "parakeet", "cockatoo", "macaw", "canary", "finch", "sparrow", "robin", "cardinal", "hummingbird", "crow",
        "raven", "magpie", "eagle", "hawk", "falcon", "owl", "vulture", "heron", "egret", "stork", "pelican",
        "flamingo", "penguin", "ostrich", "peacock", "rooster", "hen", "chick", "woodpecker", "kingfisher", "puffin",
        "sandpiper", "cormorant",
    ),
    "cat": ("kitten", "kitty", "feline", "tabby", "calico", "siamese"),
    "dog": (
        "puppy", "pup", "doggy", "doggie", "canine", "hound", "mutt", "poodle", "labrador", "retriever",
        "golden retriever", "terrier", "bulldog", "dachshund", "beagle", "husky", "corgi", "pug", "chihuahua", "collie",
        "german shepherd", "sheepdog", "greyhound", "dalmatian", "spaniel", "rottweiler", "pitbull",
    ),
    "horse": ("pony", "stallion", "mare", "foal", "colt", "mule", "donkey"),
    "sheep": ("lamb", "ram", "ewe", "goat"),
    "cow": ("cattle", "bull", "calf", "ox", "oxen", "steer", "heifer", "longhorn", "bovine", "bison", "buffalo"),
    "elephant": (),
    "bear": ("cub", "grizzly", "panda"),
    "zebra": (),
    "giraffe": (),
    "backpack": ("back pack", "knapsack", "rucksack", "bookbag", "bag"),
    "umbrella": ("parasol",),
    "handbag": ("purse", "pocketbook", "hand bag", "tote", "bag"),
    "tie": ("necktie", "neck tie", "bowtie", "bow tie"),
    "suitcase": ("suit case", "luggage", "baggage", "briefcase", "bag"),
    "frisbee": ("frisbie", "frisby", "disc", "disk", "flying disc"),
    "skis": ("ski",),
    "snowboard": ("snow board", "board"),
    "sports ball": (
        "ball", "baseball", "basketball", "football", "volleyball", "soccer ball", "tennis ball", "softball",
    ),
    "kite": (),
    "baseball bat": ("bat",),
    "baseball glove": ("glove", "mitt"),
    "skateboard": ("skate board", "board", "longboard"),
    "surfboard": ("surf board", "board", "boogie board", "body board", "paddle board", "paddleboard"),
    "tennis racket": ("racket", "racquet", "tennis racquet"),
    "bottle": (),
    "wine glass": ("wineglass", "glass", "goblet"),
    "cup": ("mug", "teacup", "glass", "tumbler"),
    "fork": (),
    "knife": (),
    "spoon": (),
    "bowl": (),
    "banana": (),
    "apple": (),
    "sandwich": ("hamburger", "burger", "cheeseburger", "panini", "hoagie"),
    "orange": ("tangerine", "mandarin", "clementine"),
    "broccoli": ("brocolli", "brocoli"),
    "carrot": (),
    "hot dog": ("hotdog", "frankfurter", "chili dog", "corn dog"),
    "pizza": ("pie",),
    "donut": ("doughnut",),
    "cake": ("cupcake", "cheesecake"),
    "chair": ("armchair", "arm chair", "recliner", "stool", "rocker", "seat"),
    "couch": ("sofa", "loveseat", "love seat", "futon"),
    "potted plant": ("plant", "houseplant", "house plant", "flower", "flowerpot", "flower pot"),
    "bed": ("bunk", "mattress"),
    "dining table": ("table", "desk"),
    "toilet": ("commode", "urinal"),
    "tv": ("television", "television set", "tv set", "monitor", "screen", "flat screen", "computer"),
    "laptop": ("laptop computer", "notebook computer", "computer", "macbook"),
    "mouse": (),
    "remote": ("remote control", "wii remote", "wiimote", "controller", "game controller", "wii controller"),
    "keyboard": (),
    "cell phone": (
        "phone", "cellphone", "telephone", "mobile", "mobile phone", "smartphone", "smart phone", "iphone",
    ),
    "microwave": ("microwave oven",),
    "oven": ("stove", "stovetop", "stove top", "cooker"),
    "toaster": (),
    "sink": ("basin", "wash basin", "washbasin", "washbowl"),
    "refrigerator": ("fridge", "freezer"),
    "book": ("novel", "textbook", "notebook"),
    "clock": (),
    "vase": (),
    "scissors": ("scissor", "shears"),
    "teddy bear": (
        "teddy", "stuffed bear", "toy bear", "plush bear", "stuffed animal", "stuffed toy", "bear",
    ),
    "hair drier": ("hair dryer", "hairdryer", "blow dryer", "blow drier", "dryer"),
    "toothbrush": ("tooth brush",),
}
"""Category -> other words for it: lower case, singular, and plural where a lemmatizer may leave that.

A word for several categories stands in each. Left out are words for many at once ("crowd") and words that more often
mean something else ("light", "sign").
"""
# fmt: on


def categories_by_word(words: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """For each name or word, the categories it may mean: the one of that name first, then in the table's order."""
    meanings = {category: [category] for category in words}
    for category, others in words.items():
        for word in others:
            meanings.setdefault(word, []).append(category)
    return {word: tuple(categories) for word, categories in meanings.items()}


PERSON_WORDS = frozenset({"person", *COCO_WORDS["person"]})
"""Head nouns of what is a person: those that COCO's captions have for its category of that name."""
