"""How a folder becomes training pictures and captions: the dataset's half of a recipe."""

from __future__ import annotations

import dataclasses

from ..drawing.sizes import Size
from ..errors import RecipeError
from ..seeds import MAX_SEED
from ..settings import choice, integer, number, switch, validate, words
from .buckets import BucketRule
from .corruptions.chain import CorruptionStep, parse_chain
from .framing import FILLS, FRAMINGS, MAX_SIDE, MIN_SIDE, parse_mix
from .pictures import parse_color

CAPTION_SOURCES = ("auto", "sidecar", "metadata", "fixed")
SIZE_CONDITIONINGS = ("truthful", "lie")
MASKS = ("none", "beside", "alpha")

FRAMING = "Glitch Framing"
CAPTIONS = "Glitch Captions"
CORRUPTION = "Glitch Corruption Text"
"""Groups of settings, called as the nodes that show them."""


@dataclasses.dataclass(frozen=True)
class DatasetRecipe:
    """How a folder becomes training pictures. The order of fields is the order of widgets."""

    folder: str = words(
        "", "Folder of pictures, each with a caption of the same name as .txt or .caption."
    )
    width: int = integer(
        512, MIN_SIDE, MAX_SIDE, "Width of the training pictures, in pixels.", step=8, multiple=True
    )
    height: int = integer(
        512,
        MIN_SIDE,
        MAX_SIDE,
        "Height of the training pictures, in pixels.",
        step=8,
        multiple=True,
    )
    landscape_width: int = integer(
        0,
        0,
        MAX_SIDE,
        "Width for landscape pictures, in pixels, such as 1216 beside portraits of 832 × 1216. "
        "0: landscape pictures get the same shape as all others.",
        step=8,
        multiple=True,
        group=FRAMING,
    )
    landscape_height: int = integer(
        0,
        0,
        MAX_SIDE,
        "Height for landscape pictures, in pixels. 0: as above.",
        step=8,
        multiple=True,
        group=FRAMING,
    )
    framing: str = choice(
        "center_crop",
        FRAMINGS,
        "How a picture meets the training shape. center_crop: cover, then cut out the middle: the "
        "standard. random_crop: cover, then cut anywhere. bucket: one of many shapes, the one "
        "nearest to the picture's own (kohya's enable_bucket). stretch: the whole picture forced "
        "into the shape. letterbox: the whole picture with a border. tile: the whole picture "
        "repeated. uncropped: the whole picture at its own aspect ratio.",
    )
    framing_mix: str = words(
        "",
        "Several framings by weight, drawn anew for each variant, such as '70 bucket, 30 stretch'. "
        "When filled in, it replaces framing.",
        check=parse_mix,
        group=FRAMING,
    )
    random_flip: bool = switch(
        False, "Mirror every second variant at random, left to right.", group=FRAMING
    )
    letterbox_fill: str = choice(
        "black",
        FILLS,
        "What letterbox puts beside the picture: black, blur or the repeated edge.",
        group=FRAMING,
    )
    bucket_no_upscale: bool = switch(
        False,
        "bucket: never enlarge a small picture; its bucket is its own size, rounded down.",
        group=FRAMING,
    )
    bucket_reso_steps: int = integer(
        64,
        8,
        512,
        "bucket: widths and heights are multiples of this, in pixels.",
        step=8,
        multiple=True,
        group=FRAMING,
    )
    min_bucket_reso: int = integer(
        256,
        64,
        4096,
        "bucket: shortest side of a bucket, in pixels.",
        step=8,
        multiple=True,
        group=FRAMING,
    )
    max_bucket_reso: int = integer(
        1024,
        64,
        8192,
        "bucket: longest side of a bucket, in pixels.",
        step=8,
        multiple=True,
        group=FRAMING,
    )
    size_conditioning: str = choice(
        "truthful",
        SIZE_CONDITIONINGS,
        "What SDXL is told of a picture's source size and crop. lie: always the standard values, "
        "as if the source had the training size and nothing was cut.",
        group=FRAMING,
    )
    background: str = words(
        "white",
        "Colour behind transparent pictures: a name or #rrggbb.",
        check=parse_color,
        group=FRAMING,
    )
    masks: str = choice(
        "none",
        MASKS,
        "What makes only a part of each picture count in the loss. beside: a mask file beside the "
        "picture (name_mask, name-mask, name.mask or name-masklabel), white where it counts. "
        "alpha: the picture's own transparency, opaque where it counts. A picture without one "
        "counts whole.",
        group=FRAMING,
    )
    corruption: str = words(
        "",
        "Corruptions in order, one per line, such as 'jpeg_crush probability=0.5 quality_high=20'. "
        "Every one takes amount (0 to 1) and probability (0 to 1); its own options are in the "
        "node's help. Corruption nodes add theirs after these.",
        lines=True,
        check=parse_chain,
        group=CORRUPTION,
    )
    caption_source: str = choice(
        "auto",
        CAPTION_SOURCES,
        "Where captions are. sidecar: a .txt or .caption beside each picture. metadata: "
        "metadata.jsonl with file_name and text. fixed: fixed_caption for all. auto: sidecar, "
        "else metadata.",
        group=CAPTIONS,
    )
    fixed_caption: str = words(
        "", "The caption of every picture when caption_source is fixed.", lines=True, group=CAPTIONS
    )
    trigger_word: str = words("", "Put before every caption, with a comma.")
    caption_dropout: float = number(
        0.0,
        0.0,
        1.0,
        "Chance that a picture is trained with an empty caption, drawn each time it is seen "
        "(kohya's caption_dropout_rate).",
    )
    caption_part_dropout: float = number(
        0.0,
        0.0,
        1.0,
        "Chance of each sentence or comma part of a caption to be left out.",
        group=CAPTIONS,
    )
    caption_word_dropout: float = number(
        0.0, 0.0, 1.0, "Chance of each word of a caption to be left out.", group=CAPTIONS
    )
    caption_shuffle: bool = switch(
        False, "Shuffle the sentences and comma parts of captions.", group=CAPTIONS
    )
    caption_swap: float = number(
        0.0,
        0.0,
        1.0,
        "Chance that a picture's caption goes to another picture: semantic drift.",
        group=CAPTIONS,
    )
    repeats: int = integer(
        10, 1, 100_000, "How often each picture is seen per epoch. 10 is usual, 900 overtrains."
    )
    variants_per_picture: int = integer(
        1,
        1,
        1000,
        "How many random versions (crop, flip, corruption, caption parts) of each picture are "
        "prepared and taken in turns. Each is encoded once.",
    )
    data_seed: int = integer(0, 0, MAX_SEED, "Seeds everything random about pictures and captions.")

    def __post_init__(self) -> None:
        validate(self)
        self._check_shapes()

    @property
    def framing_weights(self) -> dict[str, float]:
        """Framing to its share; the shares sum to 1."""
        return parse_mix(self.framing_mix) or {self.framing: 1.0}

    @property
    def corruption_chain(self) -> tuple[CorruptionStep, ...]:
        """The corruptions, in order."""
        return parse_chain(self.corruption)

    @property
    def varies_pictures(self) -> bool:
        """Whether variants of one picture look different."""
        return (
            len(self.framing_weights) > 1
            or "random_crop" in self.framing_weights
            or self.random_flip
            or bool(self.corruption_chain)
        )

    @property
    def varies_captions(self) -> bool:
        """Whether variants of one picture have different captions, whole dropout aside."""
        chances = (self.caption_part_dropout, self.caption_word_dropout, self.caption_swap)
        return self.caption_shuffle or any(chances)

    @property
    def variants(self) -> int:
        """Number of variants worth preparing: 1 when nothing varies."""
        varies = self.varies_pictures or self.varies_captions
        return self.variants_per_picture if varies else 1

    def shape_for(self, size: Size) -> Size:
        """Return the training shape for a picture of a size: landscape may have its own."""
        if self.landscape_width and size[0] > size[1]:
            return self.landscape_width, self.landscape_height
        return self.width, self.height

    def buckets(self, shape: Size) -> BucketRule:
        """Return the bucket rule for pictures of a training shape."""
        return BucketRule(
            area=shape[0] * shape[1],
            step=self.bucket_reso_steps,
            shortest=self.min_bucket_reso,
            longest=self.max_bucket_reso,
            no_upscale=self.bucket_no_upscale,
        )

    def _check_shapes(self) -> None:
        for name in ("landscape_width", "landscape_height"):
            if 0 < getattr(self, name) < MIN_SIDE:
                raise RecipeError(
                    f"{name} must be 0 or {MIN_SIDE} to {MAX_SIDE}, got {getattr(self, name)}."
                )
        if bool(self.landscape_width) != bool(self.landscape_height):
            raise RecipeError(
                "landscape_width and landscape_height must both be 0 or both be set, got "
                f"{self.landscape_width} and {self.landscape_height}."
            )
        if self.min_bucket_reso > self.max_bucket_reso:
            raise RecipeError(
                f"min_bucket_reso must be at most max_bucket_reso ({self.max_bucket_reso}), "
                f"got {self.min_bucket_reso}."
            )
        if "bucket" in self.framing_weights and not self.bucket_no_upscale:
            self._check_buckets()

    def _check_buckets(self) -> None:
        for size in ((1, 1), (2, 1)):
            shape = self.shape_for(size)
            if min(shape) < self.min_bucket_reso:
                raise RecipeError(
                    f"min_bucket_reso must be at most the shorter side of {shape[0]}×{shape[1]}, "
                    f"got {self.min_bucket_reso}."
                )
            if max(shape) > self.max_bucket_reso:
                raise RecipeError(
                    f"max_bucket_reso must be at least the longer side of {shape[0]}×{shape[1]}, "
                    f"got {self.max_bucket_reso}."
                )
