"""The rebuilt modules compute what the host computes, on the host's own memory."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.host

SHORT = "a portrait, red coat"
LONG = " ".join(f"word{number} (soft light:1.3)," for number in range(60))
RELATIVE = 1e-4


def relative(mine: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the largest difference over the largest value."""
    return ((mine - theirs).abs().max() / theirs.abs().max()).item()


def host_unet(model, latents, timesteps, context, pooled) -> torch.Tensor:
    """Run the host's own UNet, with SDXL's size and crop conditioning."""
    extra = {}
    if pooled is not None:
        size = {"width": 128, "height": 96, "crop_w": 3, "crop_h": 5}
        target = {"target_width": 64, "target_height": 72}
        y = model.model.encode_adm(pooled_output=pooled, device="cpu", **size, **target)
        extra["y"] = y.repeat(len(latents), 1)
    with torch.no_grad():
        context = context.repeat(len(latents), 1, 1)
        return model.model.diffusion_model(latents, timesteps, context=context, **extra)


def our_unet(base, latents, timesteps, context, pooled) -> torch.Tensor:
    """Run the rebuilt UNet on the same input."""
    extra = None
    if pooled is not None:
        ids = torch.tensor([[96.0, 128.0, 5.0, 3.0, 72.0, 64.0]]).repeat(len(latents), 1)
        extra = {"text_embeds": pooled.repeat(len(latents), 1), "time_ids": ids}
    with torch.no_grad():
        context = context.repeat(len(latents), 1, 1)
        return base.unet(latents, timesteps, context, added_cond_kwargs=extra).sample


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Seeded latents and two timesteps."""
    stream = torch.Generator().manual_seed(3)
    return torch.randn(2, 4, 16, 12, generator=stream), torch.tensor([30.0, 870.0])


def encode_both(pack, model, clip, vae, base, caption: str):
    """Return (host's, ours) as pairs of prompt embeddings and pooled embeddings."""
    weights, encode = pack("nodes.weights"), pack("glitch_train.training.encode")
    literal = caption.replace("(", r"\(").replace(")", r"\)")
    theirs, pooled = clip.encode_from_tokens(clip.tokenize(literal), return_pooled=True)
    chunks = weights.encoders(model, clip, vae).tokenize(caption)
    with encode._in_fp32(base.text_encoders, torch.device("cpu")), torch.no_grad():
        mine = encode.encode_prompt(base.text_encoders, chunks)
    return (theirs[0], pooled), (mine.prompt_embeds, mine.pooled_prompt_embeds)


@pytest.mark.parametrize("caption", [SHORT, LONG], ids=["short", "long"])
def test_text_embeddings(pack, loaded, caption: str) -> None:
    """Catches another layer, chunking, padding or pooling than CLIP Text Encode's."""
    base = pack("nodes.weights").base_model(*loaded[:2])
    (theirs, their_pooled), (mine, my_pooled) = encode_both(pack, *loaded, base, caption)
    if caption is LONG:
        assert mine.shape[0] >= 6 * 77
    assert mine.shape == theirs.shape
    assert relative(mine, theirs) < RELATIVE
    if base.family.is_xl:
        assert relative(my_pooled, their_pooled[0]) < RELATIVE
    else:
        assert my_pooled is None


def test_clip_skip_is_honoured(pack, loaded) -> None:
    """Catches CLIP Set Last Layer being ignored."""
    model, clip, vae = loaded
    skipping = clip.clone()
    skipping.clip_layer(-3)
    base = pack("nodes.weights").base_model(model, skipping)
    (theirs, _), (mine, _) = encode_both(pack, model, skipping, vae, base, SHORT)
    assert relative(mine, theirs) < RELATIVE


def test_unet_output(pack, loaded, inputs) -> None:
    """Catches a weight in the wrong place, wrong heads, or wrong size conditioning."""
    model, clip, vae = loaded
    base = pack("nodes.weights").base_model(model, clip)
    (context, pooled), _ = encode_both(pack, *loaded, base, SHORT)
    pooled = pooled if base.family.is_xl else None
    context = context[None].clone()
    theirs = host_unet(model, *inputs, context, pooled)
    mine = our_unet(base, *inputs, context, pooled)
    assert relative(mine, theirs) < RELATIVE


def test_weights_are_shared(pack, loaded) -> None:
    """Catches a copy of the model: twice the memory."""
    model, clip, _ = loaded
    base = pack("nodes.weights").base_model(model, clip)
    theirs = {value.data_ptr() for value in model.model.diffusion_model.state_dict().values()}
    assert all(parameter.data_ptr() in theirs for parameter in base.unet.parameters())
    assert not any(parameter.is_inference() for parameter in base.unet.parameters())
    towers = clip.cond_stage_model.state_dict().values()
    shared = {value.data_ptr() for value in towers}
    for encoder in base.text_encoders:
        layers = encoder.model.text_model.parameters()
        assert all(parameter.data_ptr() in shared for parameter in layers)


def test_patches_on_model_are_trained_from(pack, loaded, inputs) -> None:
    """Catches training on the bare checkpoint when MODEL carries another LoRA."""
    model, clip, vae = loaded
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    shape = model.model.state_dict()[key].shape
    change = torch.randn(shape, generator=torch.Generator().manual_seed(9)) * 0.1
    patched = model.clone()
    patched.add_patches({key: (change,)}, 0.5)
    weights = pack("nodes.weights")
    base, bare = weights.base_model(patched, clip), weights.base_model(model, clip)
    (context, pooled), _ = encode_both(pack, *loaded, base, SHORT)
    pooled = pooled if base.family.is_xl else None
    context = context[None].clone()
    patched.patch_model(torch.device("cpu"))  # the host writes the patch into its weights …
    try:
        theirs = host_unet(patched, *inputs, context, pooled).clone()
    finally:
        patched.unpatch_model(torch.device("cpu"))
    mine = our_unet(base, *inputs, context, pooled)
    assert relative(mine, theirs) < RELATIVE
    assert relative(our_unet(bare, *inputs, context, pooled), theirs) > RELATIVE


def test_a_loaded_patch_of_another_branch_is_not_trained_from(pack, loaded) -> None:
    """Catches weights read while a different MODEL branch has its patches in them."""
    import comfy.model_management

    model, clip, _ = loaded
    key = "diffusion_model.out.2.weight"
    original = model.model.state_dict()[key].clone()
    other = model.clone()
    other.add_patches({key: (torch.ones_like(original),)}, 1.0)
    comfy.model_management.load_models_gpu([other], force_full_load=True)
    assert not model.model.state_dict()[key].equal(original)
    base = pack("nodes.weights").base_model(model, clip)
    assert base.unet.conv_out.weight.equal(original)


def test_clip_of_another_family_is_named(pack, loaded) -> None:
    """Catches a mismatch that would fail in the first forward pass."""
    model, clip, _ = loaded

    class NoTower:
        pass

    lonely = clip.clone()
    lonely.cond_stage_model = NoTower()
    errors = pack("glitch_train.errors")
    with pytest.raises(errors.CheckpointError, match="CLIP does not belong to this"):
        pack("nodes.weights").base_model(model, lonely)


class Resident(torch.nn.Module):
    """A model whose weights are not on the CPU, and which says where it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(2, device="meta"))
        self.sent_to: list[str] = []

    def to(self, device) -> Resident:
        self.sent_to.append(str(device))
        return self


@pytest.mark.usefixtures("host_modules")
@pytest.mark.parametrize("offload", ["meta", "cpu"])
def test_a_model_that_unloads_to_its_own_device_leaves_it(pack, offload: str) -> None:
    """Catches the host's model beside ours on the GPU, where --highvram unloads it to."""
    from comfy.model_patcher import ModelPatcher

    model = Resident() if offload == "meta" else torch.nn.Linear(1, 1)
    patcher = ModelPatcher(model, torch.device("cpu"), torch.device(offload))
    pack("nodes.weights").unload(patcher)
    if offload == "meta":
        assert model.sent_to == ["cpu"]
    assert str(patcher.current_loaded_device()) == "cpu"


@torch.inference_mode()  # as the host's executor
def test_the_vae_leaves_and_comes_back(loaded, pack) -> None:
    """Catches a VAE that stays beside the training, or one that is gone for the next picture."""
    import comfy.model_management
    from PIL import Image

    encoders = pack("nodes.weights").encoders(*loaded)
    picture = Image.new("RGB", (64, 64), "red")
    before = encoders.encode_picture(picture)
    assert comfy.model_management.current_loaded_models
    encoders.leave_device()
    assert not comfy.model_management.current_loaded_models
    assert encoders.encode_picture(picture).equal(before)
