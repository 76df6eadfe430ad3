"""The settings of one training: the trainer's half of a recipe."""

from __future__ import annotations

import dataclasses
import re

from ..dataset.framing import MAX_SIDE, MIN_SIDE
from ..errors import RecipeError
from ..file_names import name_fault
from ..seeds import MAX_SEED
from ..settings import choice, integer, number, switch, validate, words
from ..text_lists import prompts

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
BASE_PRECISIONS = ("as precision", "fp8", "nf4")
SAVE_PRECISIONS = ("fp16", "bf16", "fp32")
OPTIMIZERS = ("AdamW", "AdamW8bit", "Prodigy", "Lion", "Adafactor", "SGD")
SCHEDULERS = (
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "rex",
)
POLYNOMIAL_END = 1e-7
"""Where diffusers' polynomial schedule ends."""
LOSS_TYPES = ("mse", "huber", "l1")
TIMESTEP_SAMPLINGS = ("uniform", "logit_normal")
MAX_SAMPLE_PROMPTS = 100
RESUMES = ("auto", "never", "must")
SAMPLERS = ("dpmpp_2m", "dpmpp_2m_karras", "euler")
AUTO_ON_OFF = ("auto", "on", "off")
NETWORK_TYPES = ("lora", "dora", "rslora")
UNET_BLOCKS = ("all", "down", "mid", "up", "down+mid", "mid+up", "down+up")
CONVOLUTIONS = "convolutions"
UNET_LAYERS = (
    "all",
    "attention",
    "self_attention",
    "cross_attention",
    "feed_forward",
    CONVOLUTIONS,
)

NETWORK = "Glitch Network"
OPTIMIZER = "Glitch Optimizer"
NOISE = "Glitch Noise and Loss"
STOPPING = "Glitch Stopping"
SAMPLES = "Glitch Samples"
MEMORY = "Glitch Memory"
"""Groups of settings, called as the nodes that show them."""

CLIP_NORM = 1.0
"""Largest gradient norm; kohya's ``max_grad_norm``."""


def check_output_name(name: str) -> None:
    """Refuse names that would leave the output folder or that a file system cannot hold.

    Raises:
        RecipeError: says what is wrong with the name.
    """
    if not name.strip():
        raise RecipeError("output_name is empty; give the LoRA a name, for example glitch_lora.")
    if ".." in name or re.search(r'[/\\:*?"<>|\x00-\x1f]', name) or name.startswith("."):
        raise RecipeError(
            f"output_name must be a plain file name without path separators or '..'; got {name!r}."
        )
    if fault := name_fault(f"{name}_00001"):  # as the files are called
        raise RecipeError(f"output_name {name!r} {fault}; choose another name.")
    if len(name.encode("utf-8")) > 200:
        raise RecipeError("output_name is longer than 200 bytes; choose a shorter name.")


def check_sample_prompts(text: str) -> None:
    """Refuse more prompts than a strip of sample pictures can show.

    Raises:
        RecipeError: says how many there are.
    """
    count = len(prompts(text))
    if count > MAX_SAMPLE_PROMPTS:
        raise RecipeError(
            f"sample_prompts must be at most {MAX_SAMPLE_PROMPTS} prompts, got {count}; each is "
            "sampled every time and is a row of the strip."
        )


@dataclasses.dataclass(frozen=True)
class TrainRecipe:
    """The settings of one training run. The order of fields is the order of widgets."""

    steps: int = integer(
        1500,
        1,
        10_000_000,
        "Optimizer steps. 1200 is short, 2000 standard, more than 5000 overtrains.",
    )
    learning_rate: float = number(
        1e-4,
        0.0,
        10.0,
        "Step size of the optimizer. 5e-5 is fine, 1e-4 standard, 2e-4 and up glitches.",
        step=1e-6,
    )
    train_text_encoder: bool = switch(
        False,
        "Trains the text encoders too: words drift from their meaning. Slower, since captions are "
        "encoded anew at every step.",
    )
    text_encoder_only: bool = switch(
        False, "Leaves the UNet alone and trains the text encoders only.", group=NETWORK
    )
    text_encoder_lr: float = number(
        5e-5,
        0.0,
        10.0,
        "Learning rate of the text encoders, when they are trained.",
        step=1e-6,
    )
    lr_scheduler: str = choice(
        "constant",
        SCHEDULERS,
        "How the learning rate goes over the run. constant and constant_with_warmup keep it, the "
        "others fall to zero at the last step; constant is the log's standard.",
        group=OPTIMIZER,
    )
    warmup_steps: int = integer(
        0,
        0,
        1_000_000,
        "Steps over which the learning rate rises from zero (not for constant).",
        group=OPTIMIZER,
    )
    lr_cycles: int = integer(
        1,
        1,
        1000,
        "Times the learning rate starts anew; for cosine_with_restarts only.",
        group=OPTIMIZER,
    )
    optimizer: str = choice(
        "AdamW",
        OPTIMIZERS,
        "AdamW is the standard. AdamW8bit needs bitsandbytes, Prodigy needs prodigyopt (set "
        "learning_rate to 1), Lion needs lion-pytorch (a third of AdamW's learning_rate).",
        group=OPTIMIZER,
    )
    weight_decay: float = number(
        0.01,
        0.0,
        10.0,
        "How strongly the LoRA is pulled to zero; 0.01 is AdamW's standard.",
        group=OPTIMIZER,
    )
    network_dim: int = integer(
        128, 1, 512, "Rank of the LoRA. 128 is standard, 192 is wide, 8 is thin."
    )
    network_alpha: float = number(
        64.0,
        0.001,
        4096.0,
        "The LoRA is scaled by network_alpha / network_dim. Equal values mean a scale of 1.",
        step=0.001,
    )
    network_type: str = choice(
        "lora",
        NETWORK_TYPES,
        "lora is the standard. dora trains the strength of every output beside its direction; "
        "slower. rslora divides network_alpha by the root of network_dim: louder at high ranks.",
        group=NETWORK,
    )
    conv_dim: int = integer(
        0,
        0,
        512,
        "Rank of a LoRA on the 3x3 convolutions too: grain, edges, surfaces. 8 is usual, 0 is off. "
        "The small projections beside them get network_dim.",
        group=NETWORK,
    )
    conv_alpha: float = number(
        4.0,
        0.001,
        4096.0,
        "The LoRA of the 3x3 convolutions is scaled by conv_alpha / conv_dim.",
        step=0.001,
        group=NETWORK,
    )
    unet_blocks: str = choice(
        "all",
        UNET_BLOCKS,
        "Which part of the UNet gets a LoRA. down and mid aim at composition, up at surfaces.",
        group=NETWORK,
    )
    unet_layers: str = choice(
        "all",
        UNET_LAYERS,
        "Which layers of the UNet's transformers get a LoRA. cross_attention: what words do; "
        "self_attention: layout; feed_forward: texture. convolutions: none, conv_dim only.",
        group=NETWORK,
    )
    batch_size: int = integer(1, 1, 1024, "Pictures per forward pass.")
    gradient_accumulation: int = integer(
        1,
        1,
        4096,
        "Forward passes per optimizer step; multiplies the batch without the memory.",
        group=OPTIMIZER,
    )
    loss_type: str = choice(
        "mse",
        LOSS_TYPES,
        "Error of the prediction. huber and l1 forgive large errors; huber is kohya's, by SNR.",
        group=NOISE,
    )
    min_snr_gamma: float = number(
        0.0,
        0.0,
        100.0,
        "Weighs timesteps by their signal-to-noise ratio, capped here; 5 is usual, 0 is off.",
        group=NOISE,
    )
    timestep_min: int = integer(
        0, 0, 999, "Lowest timestep trained. 600 and up: composition only.", group=NOISE
    )
    timestep_max: int = integer(
        999, 0, 999, "Highest timestep trained. 300 and below: texture only.", group=NOISE
    )
    timestep_sampling: str = choice(
        "uniform",
        TIMESTEP_SAMPLINGS,
        "uniform, or logit_normal: more often the middle.",
        group=NOISE,
    )
    noise_offset: float = number(
        0.0,
        0.0,
        10.0,
        "Shifts the noise of a whole picture: darker darks; 0.05 is usual.",
        group=NOISE,
    )
    multires_noise_iterations: int = integer(
        0,
        0,
        16,
        "Levels of coarser noise on top: composition shifts; 6 is usual, 0 is off.",
        group=NOISE,
    )
    multires_noise_discount: float = number(
        0.3, 0.0, 1.0, "How much weaker each coarser level is.", group=NOISE
    )
    input_perturbation: float = number(
        0.0,
        0.0,
        10.0,
        "Further noise that is not predicted: softer, stranger; 0.1 is usual.",
        group=NOISE,
    )
    validation_split: float = number(
        0.0,
        0.0,
        0.9,
        "Share of the pictures that is held out of training, so that overfitting can be told.",
        group=STOPPING,
    )
    probe_every: int = integer(
        100,
        0,
        1_000_000,
        "Measure a steady loss (fixed pictures, noise and timesteps) every so many steps; 0 is "
        "never. Each time costs about three training steps.",
        group=STOPPING,
    )
    precision: str = choice(
        "auto",
        PRECISIONS,
        "Number format of the frozen model. auto: bf16 on GPUs that have it, else fp16 on a GPU, "
        "fp32 on a CPU. LoRA weights are always trained in fp32.",
        group=MEMORY,
    )
    base_precision: str = choice(
        "as precision",
        BASE_PRECISIONS,
        "How the frozen UNet is kept in memory while it trains. fp8 takes half of bf16; nf4 less "
        "still and rounds more (needs bitsandbytes). Not for dora.",
        group=MEMORY,
    )
    gradient_checkpointing: str = choice(
        "auto",
        AUTO_ON_OFF,
        "Recompute activations instead of keeping them: less memory, about a third slower. "
        "auto decides by the free memory; where memory runs out all the same, it is turned on, and "
        "then batches are cut into smaller ones, with equal losses.",
        group=MEMORY,
    )
    stop_at_epochs: int = integer(
        0,
        0,
        10_000_000,
        "Stop after so many epochs, if steps are not done before; 0 is off.",
        group=STOPPING,
    )
    stop_at_minutes: float = number(
        0.0,
        0.0,
        1_000_000.0,
        "Stop after so many minutes of training, all sessions of the run together; 0 is off.",
        step=0.1,
        group=STOPPING,
    )
    stop_at_drift: float = number(
        0.0,
        0.0,
        1000.0,
        "Stop when the predictions are this far from the base model's, as a share of their size; "
        "looked at with every probe. 0 is off.",
        group=STOPPING,
    )
    glitch_through: bool = switch(
        False,
        "Goes on when a loss is not a finite number: that step changes nothing and is counted. "
        "Off: the run stops there.",
        group=STOPPING,
    )
    save_every: int = integer(
        0,
        0,
        10_000_000,
        "Keep the LoRA as it is every so many steps, and a state to go on from, also of the "
        "finished run; 0: the LoRA at the end, both on Cancel.",
    )
    seed: int = integer(
        0, 0, MAX_SEED, "Seeds the LoRA, the noise, the timesteps and the order of the pictures."
    )
    output_name: str = words(
        "glitch_lora", "Name of the LoRA file and of the run's folder.", check=check_output_name
    )
    save_precision: str = choice(
        "fp16",
        SAVE_PRECISIONS,
        "Number format of the LoRA file. fp16 is half the size of fp32.",
        group=MEMORY,
    )
    sample_every: int = integer(
        0,
        0,
        10_000_000,
        "Sample pictures from the model as it stands every so many steps, and before the first; 0 "
        "is never. The losses stay the same.",
    )
    sample_prompts: str = words(
        "",
        "Prompts of the sample pictures, one a line; for prompts of several lines put a line of "
        f"--- between (or after) them; at most {MAX_SAMPLE_PROMPTS}. Empty: the first captions of "
        "the folder.",
        lines=True,
        check=check_sample_prompts,
        group=SAMPLES,
    )
    sample_sampler: str = choice(
        "dpmpp_2m", SAMPLERS, "How sample pictures are drawn, named as in KSampler.", group=SAMPLES
    )
    sample_steps: int = integer(20, 1, 1000, "Sampling steps of a sample picture.", group=SAMPLES)
    sample_cfg: float = number(
        7.0,
        0.0,
        100.0,
        "Guidance of the sample pictures against the empty prompt; 1 is none, in half the time.",
        step=0.1,
        group=SAMPLES,
    )
    sample_seed: int = integer(
        0,
        0,
        MAX_SEED,
        "Seeds the noise of the sample pictures, the same for every prompt and as in KSampler.",
        group=SAMPLES,
    )
    sample_width: int = integer(
        0,
        0,
        MAX_SIDE,
        "Width of the sample pictures, in pixels. 0: as the first training picture.",
        step=8,
        multiple=True,
        group=SAMPLES,
    )
    sample_height: int = integer(
        0,
        0,
        MAX_SIDE,
        "Height of the sample pictures, in pixels. 0: as the first training picture.",
        step=8,
        multiple=True,
        group=SAMPLES,
    )

    def __post_init__(self) -> None:
        validate(self)
        for name in ("sample_width", "sample_height"):
            if 0 < getattr(self, name) < MIN_SIDE:
                raise RecipeError(
                    f"{name} must be 0 or {MIN_SIDE} to {MAX_SIDE}, got {getattr(self, name)}."
                )
        if not self.learning_rate:
            raise RecipeError(
                "learning_rate must be above 0: with 0 nothing is learnt; where Nodes 2.0 made 0 "
                "of a small number, set it in the classic nodes."
            )
        if self.timestep_min > self.timestep_max:
            raise RecipeError(
                f"timestep_min must not be above timestep_max, got {self.timestep_min} and "
                f"{self.timestep_max}."
            )
        if self.unet_layers == CONVOLUTIONS and not self.conv_dim:
            raise RecipeError(
                "unet_layers convolutions trains nothing while conv_dim is 0; set conv_dim, for "
                "example to 8."
            )
        if self.network_type == "dora" and self.base_precision != "as precision":
            raise RecipeError(
                "network_type dora measures the weights that base_precision "
                f"{self.base_precision} rounds; choose as precision, or lora or rslora."
            )
        both = self.train_text_encoder and not self.text_encoder_only
        if self.optimizer == "Prodigy" and both and self.text_encoder_lr != self.learning_rate:
            raise RecipeError(
                "Prodigy finds one step size for all, so text_encoder_lr must equal learning_rate; "
                f"got {self.text_encoder_lr} and {self.learning_rate}."
            )
        if self.stop_at_drift and not self.probe_every:
            raise RecipeError(
                "stop_at_drift is looked at with every probe, so probe_every must be above 0."
            )
        if self.lr_scheduler == "polynomial" and self.learning_rate <= POLYNOMIAL_END:
            raise RecipeError(
                f"lr_scheduler polynomial falls to {POLYNOMIAL_END}, so learning_rate must be "
                f"above that; got {self.learning_rate}."
            )

    @property
    def trains_unet(self) -> bool:
        """Whether the UNet gets a LoRA."""
        return not self.text_encoder_only

    @property
    def trains_text_encoder(self) -> bool:
        """Whether the text encoders get a LoRA."""
        return self.train_text_encoder or self.text_encoder_only
