"""Glitch Report in the real host: pictures, models, several runs, files, bad input."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import torch
from graphs import GraphBuilder
from PIL import Image
from safetensors.torch import save_file

from glitch_demo.host import Host
from glitch_demo.photos import demo_photos, load
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import PromptRejected, RunFailed

pytestmark = pytest.mark.host

LORA = "report_lora.safetensors"
RANK = 4


@pytest.fixture(scope="module")
def pictures(host: Host) -> list[str]:
    """Put six photographs and their JPEG-crushed copies into input; return their names."""
    folder = host.base_dir / "input"
    photos = [load(photo, 96) for photo in demo_photos()]
    for number, picture in enumerate([*photos, photos[0].rotate(180)]):
        picture.save(folder / f"report_{number}.png")
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=5)
        Image.open(file).save(folder / f"crushed_{number}.png")
    return [str(number) for number in range(6)]


def batch(builder: GraphBuilder, kind: str, count: int) -> tuple[str, int]:
    """Return an IMAGE batch of the first pictures of a kind."""
    whole = (builder.add("LoadImage", image=f"{kind}_0.png"), 0)
    for number in range(1, count):
        one = (builder.add("LoadImage", image=f"{kind}_{number}.png"), 0)
        whole = (builder.add("ImageBatch", image1=whole, image2=one), 0)
    return whole


def write_lora(host: Host) -> None:
    """Write a LoRA for one UNet and one text encoder module of the pocket SD1.5."""
    torch.manual_seed(0)
    state = {}
    for name, shape in (
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", (320, 320)),
        ("lora_te_text_model_encoder_layers_3_mlp_fc1", (3072, 768)),
    ):
        state[f"{name}.lora_up.weight"] = torch.randn(shape[0], RANK) * 0.2
        state[f"{name}.lora_down.weight"] = torch.randn(RANK, shape[1]) * 0.2
        state[f"{name}.alpha"] = torch.tensor(float(RANK))
    path = host.base_dir / "models" / "loras" / LORA
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)


def show(builder: GraphBuilder, report: str) -> dict[str, str]:
    """Preview the node's texts and picture; return the preview nodes."""
    nodes = {
        name: builder.add("PreviewAny", source=(report, name)) for name in ("report", "report_json")
    }
    return {**nodes, "radar": builder.add("PreviewImage", images=(report, "radar"))}


def test_pictures_alone_side_by_side(host: Host, client: ComfyClient, pictures: list[str]) -> None:
    """Catches a run that is lost, an index on the wrong effect, or a file that is missing."""
    builder = GraphBuilder(client)
    base = batch(builder, "report", 6)
    report = builder.add(
        "GlitchReport", base=base, glitched=batch(builder, "crushed", 6), glitched_2=base,
        names="crushed\nuntouched", filename_prefix="glitch/seen",
    )  # fmt: skip
    shown = show(builder, report)
    outputs = client.run(builder.nodes)
    text = outputs[shown["report_json"]]["text"][0]
    crushed, untouched = json.loads(text)["runs"]
    indices = {key: one["index"] for key, one in crushed["effects"].items()}
    indices.pop("overall")
    assert max(indices, key=indices.get) == "compression"
    assert indices["compression"] > 0.5
    assert {one["index"] for one in untouched["effects"].values()} == {0.0}
    assert outputs[report]["text"][0] == outputs[shown["report"]]["text"][0]
    assert "| crushed | untouched |" in outputs[report]["text"][0]
    (file,) = outputs[report]["images"]
    assert file["subfolder"] == "glitch"
    stem = host.base_dir / "output" / "glitch" / file["filename"].removesuffix(".png")
    assert stem.with_suffix(".json").read_text("utf-8") == text
    assert stem.with_suffix(".csv").read_text("utf-8").startswith("run,effect,index")
    assert stem.with_suffix(".md").is_file()
    with Image.open(io.BytesIO(client.download(**file))) as picture:
        assert "GlitchReport" in picture.info["prompt"]
    assert len(outputs[shown["radar"]]["images"]) == 1


def test_models_and_text_encoders(host: Host, client: ComfyClient, pictures: list[str]) -> None:
    """Catches drift or loudness that is not the LoRA's own, measured against its factors."""
    from glitch_train.lora.read import read_lora_file
    from glitch_train.measure.weights import lora_loudness, total_loudness
    from glitch_train.transfer.base import read_base

    write_lora(host)
    builder = GraphBuilder(client)
    loaded = builder.add("CheckpointLoaderSimple", ckpt_name="pocket_sd15.safetensors")
    wearing = builder.add("LoraLoader", model=(loaded, 0), clip=(loaded, 1), lora_name=LORA)
    base = batch(builder, "report", 2)
    report = builder.add(
        "GlitchReport", base=base, glitched=base, base_model=(loaded, 0), base_clip=(loaded, 1),
        glitched_model=(wearing, 0), glitched_clip=(wearing, 1),
        probe_prompts="a cat\na red motorcycle in a garage\nsnow",
    )  # fmt: skip
    same = builder.add(
        "GlitchReport", base=base, glitched=base, base_model=(loaded, 0), base_clip=(loaded, 1),
        glitched_model=(loaded, 0), glitched_clip=(loaded, 1),
    )  # fmt: skip
    shown, still = show(builder, report), show(builder, same)
    outputs = client.run(builder.nodes)
    effects = json.loads(outputs[shown["report_json"]]["text"][0])["runs"][0]["effects"]
    assert effects["semantic_drift"]["index"] > 0.01
    assert len(effects["semantic_drift"]["details"]["per_prompt"]) == 3
    folder = host.base_dir / "models"
    blocks, left = lora_loudness(
        read_lora_file(folder / "loras" / LORA),
        read_base(folder / "checkpoints" / "pocket_sd15.safetensors"),
    )
    assert left == 0
    seen = effects["weight_loudness"]["details"]["blocks"]
    assert len(seen) == len(blocks) == 2
    # The checkpoint holds fp16; patched weights are rounded to it.
    assert sorted(seen.values()) == pytest.approx(sorted(b.loudness for b in blocks), rel=0.02)
    assert effects["weight_loudness"]["value"] == pytest.approx(total_loudness(blocks), rel=0.02)
    unmoved = json.loads(outputs[still["report_json"]]["text"][0])["runs"][0]["effects"]
    assert unmoved["semantic_drift"]["index"] == unmoved["weight_loudness"]["index"] == 0.0


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"base_model": 0}, "A MODEL is connected without CLIP"),
        ({"base_model": 0, "base_clip": 1, "glitched_clip": 1}, "both base_model and glitched"),
        ({"glitched_clip": 1}, "glitched_clip is connected without base_clip"),
        ({"names": "a\nb"}, "names has 2 lines for 1 runs"),
        ({"filename_prefix": "../out"}, "leads outside the output folder"),
        ({"base_clip": 1, "glitched_clip": 1, "probe_prompts": "one"}, "at least 2 probe"),
        ({"glitched_2": "short"}, "2 base pictures and 1 of run 2"),
    ],
)
def test_bad_input_is_one_sentence(
    client: ComfyClient, pictures: list[str], extra: dict[str, Any], says: str
) -> None:
    """Catches a traceback where something is missing or does not pair up."""
    builder = GraphBuilder(client)
    loaded = builder.add("CheckpointLoaderSimple", ckpt_name="pocket_sd15.safetensors")
    base = batch(builder, "report", 2)
    inputs = {k: (loaded, v) if isinstance(v, int) else v for k, v in extra.items()}
    if "glitched_2" in inputs:
        inputs["glitched_2"] = batch(builder, "crushed", 1)
    builder.add("GlitchReport", base=base, glitched=batch(builder, "crushed", 2), **inputs)
    refusal = PromptRejected if "filename_prefix" in extra else RunFailed
    with pytest.raises(refusal, match=says):
        client.run(builder.nodes)
