"""The demo's photographs: where they lie in installed packages, whose they are, what they show, and where.

No picture is copied into this repository. Captions and boxes were written and drawn for the demo.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TypeAlias

from PIL import Image

PixelBox: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in whole pixels, half-open."""


class PhotoError(FileNotFoundError):
    """A photograph that the installed packages do not hold; the message says what to install."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """A photograph in an installed package.

    Attributes:
        name: Its name in the demo.
        package: Name of the distribution, as pip knows it.
        path: Where it lies in the installed package.
        credit: Who made it, and where that is said.
        licence: On what terms, as the package says.
        boxes: What it shows: name -> box in pixels of the photograph.
        captions: True of every part of the photograph that holds what they name. ``[words](name, name)`` are a phrase
            and its boxes.
    """

    name: str
    package: str
    path: str
    credit: str
    licence: str
    boxes: Mapping[str, PixelBox]
    captions: tuple[str, ...]

    def open(self) -> Image.Image:
        """Its pixels, gray or RGB.

        Raises:
            PhotoError: If the package is absent, or ships without it.
        """
        return _open(self.package, self.path).copy()


@lru_cache(maxsize=16)
def _open(package: str, path: str) -> Image.Image:
    try:
        file = Path(str(distribution(package).locate_file(path)))
    except PackageNotFoundError:
        raise PhotoError(f"the demo takes pictures from {package}: pip install '.[demo]'") from None
    if not file.is_file():
        raise PhotoError(f"{file} is missing: pip install --force-reinstall {package}")
    with Image.open(file) as image:
        return image.convert("L" if image.mode == "L" else "RGB")


_SKIMAGE = "documented in skimage.data"
_SKLEARN = "documented in sklearn/datasets/images/README.txt"

ASTRONAUT = Photo(
    name="astronaut",
    package="scikit-image",
    path="skimage/data/astronaut.png",
    credit=f"NASA Great Images database; {_SKIMAGE}",
    licence="public domain",
    boxes={
        "woman": (17, 15, 366, 512),
        "hair": (153, 15, 302, 138),
        "face": (177, 66, 276, 188),
        "suit": (17, 147, 366, 512),
        "collar": (113, 147, 306, 296),
        "patch": (133, 348, 208, 423),
        "badge": (278, 339, 329, 378),
        "helmet": (276, 343, 512, 512),
        "shuttle": (353, 0, 473, 290),
        "flag": (0, 0, 101, 512),
    },
    captions=(
        "[a smiling astronaut](woman) next to [a space shuttle model](shuttle) and [an American flag](flag)",
        "[a woman](woman) in an orange spacesuit holding [a white helmet](helmet) with a black visor",
        "Portrait of [an astronaut](woman) with [short brown hair](hair)",
        "[a space shuttle model](shuttle) on a stand",
        "[an embroidered patch](patch) on the front of [an orange flight suit](suit)",
        "[a space helmet](helmet) with a shiny black visor in front of [a model rocket](shuttle)",
        "[a round mission patch](patch) and [a blue name badge](badge) on bright orange cloth",
        "[a smiling face](face) above [the metal collar](collar) of a pressure suit",
        "[an American flag](flag) hanging behind [a woman](woman) dressed for space",
        "Studio photo of [an astronaut](woman), [her helmet](helmet) at her side",
    ),
)

CAT = Photo(
    name="cat",
    package="scikit-image",
    path="skimage/data/chelsea.png",
    credit=f"Stefan van der Walt; {_SKIMAGE}",
    licence="CC0",
    boxes={
        "cat": (0, 0, 402, 300),
        "left eye": (135, 85, 207, 150),
        "right eye": (293, 108, 346, 166),
        "nose": (229, 226, 293, 268),
        "ear": (318, 0, 402, 75),
    },
    captions=(
        "[a tabby cat](cat) with green eyes",
        "Close-up of [a tabby cat](cat) with [a reddish nose](nose)",
        "[a striped cat](cat) with [a pink ear](ear) and long white whiskers",
        "[a green eye](left eye) and [a small nose](nose) of a young cat",
        "macro photo of [a green eye](left eye) with a narrow pupil in brown fur",
        "[two green eyes](left eye, right eye) in the face of a cat",
        "My cat Chelsea. [Her nose](nose) is the colour of brick and [her left ear](ear) is listening.",
    ),
)

COFFEE = Photo(
    name="coffee",
    package="scikit-image",
    path="skimage/data/coffee.png",
    credit=f"Rachel Michetti, courtesy of Pikolo Espresso Bar; {_SKIMAGE}",
    licence="CC0",
    boxes={
        "cup": (172, 18, 412, 308),
        "saucer": (76, 66, 480, 390),
        "spoon": (316, 66, 425, 326),
        "espresso": (203, 96, 370, 195),
        "handle": (195, 224, 262, 309),
    },
    captions=(
        "[a red cup](cup) of espresso on [a red saucer](saucer) with [a silver spoon](spoon)",
        "[a cup](cup) of coffee on a wooden table",
        "[a small spoon](spoon) resting on [a glossy red saucer](saucer)",
        "Freshly pulled [espresso](espresso) in [a thick white cup](cup)",
        "[a coffee cup](cup) with [a round handle](handle)",
        "[a shiny metal spoon](spoon) next to [a cup](cup) in a cafe",
        "[golden espresso](espresso) seen from above",
        "Good morning! [A saucer](saucer), [a spoon](spoon) and [a cup](cup) of fresh coffee",
    ),
)

ROCKET = Photo(
    name="rocket",
    package="scikit-image",
    path="skimage/data/rocket.jpg",
    credit=f"SpaceX; {_SKIMAGE}",
    licence="public domain",
    boxes={
        "rocket": (308, 126, 336, 407),
        "platform": (267, 405, 383, 427),
        "left tower": (0, 0, 88, 427),
        "right tower": (559, 0, 640, 427),
        "left mast": (163, 121, 205, 427),
        "right mast": (438, 121, 480, 427),
        "left light": (129, 335, 176, 393),
        "bright light": (343, 367, 393, 413),
    },
    captions=(
        "[a white rocket](rocket) on a launch pad at dusk, between [two steel towers](left tower, right tower)",
        "[a tall white rocket](rocket) and [two lightning masts](left mast, right mast)",
        "[a lattice tower](left tower) in front of a dark blue sky",
        "[a rocket](rocket) lit by [a bright floodlight](bright light) before launch",
        "[a steel tower](right tower) beside [a rocket](rocket) ready for liftoff",
        "Evening view of [a slender rocket](rocket) and [a lightning mast](left mast)",
        "[a white rocket](rocket) standing on [its concrete base](platform)",
        "[a floodlight](left light) glowing beside [a tall mast](left mast)",
    ),
)

MOTORCYCLE = Photo(
    name="motorcycle",
    package="scikit-image",
    path="skimage/data/motorcycle_left.png",
    credit=f"Scharstein et al., Middlebury College, 2014 stereo benchmark; {_SKIMAGE}",
    licence="none stated; distributed with scikit-image (BSD-3-Clause)",
    boxes={
        "motorcycle": (91, 20, 684, 450),
        "bench": (42, 105, 293, 310),
        "front wheel": (511, 290, 684, 450),
        "back wheel": (121, 235, 292, 401),
        "headlight": (508, 123, 564, 190),
        "seat": (150, 157, 360, 257),
        "engine": (333, 238, 480, 368),
        "tank": (325, 155, 484, 250),
        "bin": (524, 180, 612, 254),
        "box": (528, 30, 594, 101),
        "fender": (504, 263, 645, 331),
    },
    captions=(
        "[a red motorcycle](motorcycle) parked in a garage",
        "[a red motorbike](motorcycle) in front of [a wooden bench](bench)",
        "[a shiny headlight](headlight) and [the front wheel](front wheel) of a motorcycle",
        "[a black leather seat](seat) beside [a shiny red tank](tank)",
        "[a chrome engine](engine) below [a red fuel tank](tank)",
        "[a cardboard box](box) on a shelf above [a red plastic bin](bin)",
        "[a rear wheel](back wheel) near [an old bench](bench)",
        "[a red fender](fender) over [a black wheel](front wheel) with cast spokes",
        "For sale: [classic motorcycle](motorcycle), one owner, garage kept",
    ),
)

MOTORBIKE = Photo(
    name="motorbike",
    package="scikit-image",
    path="skimage/data/motorcycle_right.png",
    credit=MOTORCYCLE.credit,
    licence=MOTORCYCLE.licence,
    boxes={
        "motorcycle": (48, 14, 629, 450),
        "bench": (17, 105, 271, 310),
        "front wheel": (464, 290, 629, 450),
        "back wheel": (79, 235, 245, 401),
        "headlight": (452, 123, 506, 190),
        "seat": (98, 157, 311, 257),
        "engine": (283, 238, 430, 368),
        "tank": (274, 155, 432, 250),
        "bin": (501, 180, 596, 251),
        "box": (506, 30, 576, 101),
        "fender": (459, 263, 588, 331),
    },
    captions=(
        "[an old motorcycle](motorcycle) with a red tank stands in a workshop",
        "[a wooden bench](bench) behind [a parked motorcycle](motorcycle)",
        "[a round lamp](headlight) and [a red fender](fender) of a vintage motorbike",
        "Detail of [a motorcycle engine](engine) with cooling fins",
        "[a black seat](seat) above [the back wheel](back wheel)",
        "[a red container](bin) under [a large cardboard box](box)",
        "[two motorcycle wheels](front wheel, back wheel) on a concrete floor",
        "[a leather saddle](seat), [a fuel tank](tank) and [an air-cooled engine](engine)",
    ),
)

TEMPLE = Photo(
    name="temple",
    package="scikit-learn",
    path="sklearn/datasets/images/china.jpg",
    credit=f"danielbuechele on Flickr; {_SKLEARN}",
    licence="CC BY 2.0",
    boxes={
        "tower": (61, 28, 374, 420),
        "roof": (93, 28, 321, 141),
        "lake": (320, 219, 558, 332),
        "island": (423, 227, 502, 243),
        "tree": (546, 134, 640, 427),
        "branches": (0, 134, 77, 280),
    },
    captions=(
        "[a Chinese pagoda](tower) overlooking [a calm lake](lake)",
        "[a traditional tower](tower) with green and orange roofs among the trees",
        "[a tiled roof](roof) with upturned corners against a pale sky",
        "[a tall evergreen](tree) beside [a hazy lake](lake)",
        "[a small island](island) in [a wide lake](lake) dotted with boats",
        "[the top roof](roof) of [an old temple](tower)",
        "[a red temple](tower) and [a dark tree](tree) above the water",
        "Summer in Beijing: [green branches](branches) frame [a wooden pagoda](tower)",
    ),
)

DAHLIA = Photo(
    name="dahlia",
    package="scikit-learn",
    path="sklearn/datasets/images/flower.jpg",
    credit=f"vultilion on Flickr; {_SKLEARN}",
    licence="CC BY 2.0",
    boxes={
        "dahlia": (168, 84, 447, 361),
        "second": (287, 374, 470, 427),
        "leaf": (0, 58, 147, 335),
        "bud": (572, 394, 622, 427),
    },
    captions=(
        "[an orange dahlia](dahlia) in full bloom",
        "[a round flower](dahlia) above [a second flower](second) in a dark garden",
        "[two orange dahlias](dahlia, second) in front of dark leaves",
        "[a peach-coloured flower](dahlia) beside [a large green leaf](leaf)",
        "Close-up of [a dahlia](dahlia) with many curled petals",
        "[an apricot dahlia](dahlia) near [a yellow bud](bud)",
    ),
)

CAMERAMAN = Photo(
    name="cameraman",
    package="scikit-image",
    path="skimage/data/camera.png",
    credit=f"Lav Varshney; {_SKIMAGE}",
    licence="CC0",
    boxes={
        "man": (0, 62, 332, 512),
        "hair": (161, 62, 272, 150),
        "camera": (252, 138, 327, 187),
        "tripod": (228, 186, 408, 512),
        "skyscraper": (411, 116, 434, 194),
    },
    captions=(
        "[a man](man) looking through [a video camera](camera) on [a tripod](tripod)",
        "Black and white photo of [a cameraman](man) in a dark coat",
        "[a man](man) with [dark hair](hair) filming outdoors",
        "[a small video camera](camera) mounted on [a metal tripod](tripod)",
        "[a tripod](tripod) on a lawn",
        "[a photographer](man) at work, [a white skyscraper](skyscraper) far behind him",
        "[a camcorder](camera) in the hands of a man in black gloves",
    ),
)

COINS = Photo(
    name="coins",
    package="scikit-image",
    path="skimage/data/coins.png",
    credit=f"Brooklyn Museum Collection; {_SKIMAGE}",
    licence="no known copyright restrictions",
    boxes={
        "standing figure": (305, 16, 365, 72),
        "front face": (189, 170, 237, 217),
        "helmet": (251, 172, 297, 217),
        "largest": (315, 156, 380, 218),
        "profile": (80, 175, 124, 217),
        "curls": (18, 233, 75, 288),
        "seated figure": (192, 30, 240, 73),
        "beard": (276, 239, 326, 289),
    },
    captions=(
        "[an ancient coin](standing figure) with a standing figure",
        "[a Greek coin](front face) that shows a face from the front, among others",
        "[a silver coin](helmet) with a helmeted head beside [a larger coin](largest)",
        "[a worn coin](profile) with a head in profile",
        "Museum photo of [an old coin](curls) on dark cloth",
        "[two ancient coins](standing figure, seated figure) with human figures",
        "[a bearded head](beard) on a coin from Pompeii",
    ),
)

CLOCK = Photo(
    name="clock",
    package="scikit-image",
    path="skimage/data/clock_motion.png",
    credit=f"Stefan van der Walt; {_SKIMAGE}",
    licence="public domain",
    boxes={"clock": (140, 92, 285, 216)},
    captions=(
        "[a wall clock](clock) blurred by motion",
        "blurry photo of [a round clock](clock) on a grey wall",
    ),
)

DEEP_FIELD = Photo(
    name="deep_field",
    package="scikit-image",
    path="skimage/data/hubble_deep_field.jpg",
    credit=f"NASA, HubbleSite; {_SKIMAGE}",
    licence="public domain",
    boxes={"galaxy": (106, 381, 142, 420)},
    captions=("[a spiral galaxy](galaxy) far away",),
)
"""Only for the row whose subject is too small."""

PHOTOS = (
    ASTRONAUT,
    CAT,
    COFFEE,
    ROCKET,
    MOTORCYCLE,
    MOTORBIKE,
    TEMPLE,
    DAHLIA,
    CAMERAMAN,
    COINS,
    CLOCK,
)
"""What the demo's good rows are cut from."""
