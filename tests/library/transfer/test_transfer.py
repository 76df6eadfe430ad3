"""LoRAs carried between families, on the names and shapes of the full-size networks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from loras import dense, everything, is_attention, lora_state, some

from glitch_train.errors import LoraFileError, RecipeError
from glitch_train.lora.family import named_modules
from glitch_train.lora.keys import lora_name
from glitch_train.lora.read import read_lora
from glitch_train.model.checkpoint import unet_config
from glitch_train.model.families import SD2, SD15, SDXL, SSD1B, TRANSFERABLE, VEGA, Family
from glitch_train.model.network import Network, build_network, family_towers, reference_network
from glitch_train.model.tensor_file import TensorFile, write_tensors
from glitch_train.model.unet_names import UNetLayout
from glitch_train.model.unet_shapes import LAYOUTS
from glitch_train.transfer.base import Base
from glitch_train.transfer.map_picture import draw_map, sites
from glitch_train.transfer.mapping import bucket
from glitch_train.transfer.recipe import DEPTHS, FITS, MAPPINGS, NORMS, TransferRecipe
from glitch_train.transfer.transfer import Transfer, transfer

# kohya's default set. 192 and 722 are the numbers of kohya's own files.
TARGETS = {SD15: 192, SD2: 192, SDXL: 722, SSD1B: 360, VEGA: 170}
# stabilityai/stable-diffusion-2-1, unet/config.json, where it differs from SD1.5.
SD21_CONFIG = {"attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}

SMALL_SD = build_network(
    SD15, UNetLayout((16, 32), 1, ((1,), (1,)), ((1, 1), (1, 1)), 1), family_towers(SD15)
)
SMALL_XL = build_network(
    VEGA,
    UNetLayout((16, 16, 32), 2, ((0, 0), (1, 1), (2, 2)), ((2, 2, 2), (1, 1, 1), (0, 0, 0)), 2),
    family_towers(VEGA),
)
DEEP_XL = build_network(SDXL, LAYOUTS[SDXL], ())


def carry(
    source: Family | Network, target: Family | Network, *, keep: Any = is_attention, **settings: Any
) -> Transfer:
    """Carry a seeded LoRA of one network over to another."""
    lora = read_lora(lora_state(source, keep=keep), "x")
    goal = reference_network(target) if isinstance(target, Family) else target
    return transfer(lora, Base(goal), TransferRecipe(**settings))


def true_unet(family: Family) -> UNet2DConditionModel:
    """Return the published UNet of a family, on the meta device."""
    shapes = {"label_emb.0.0.weight": (1280, 2816)} if family.is_xl else {}
    config = unet_config(shapes, LAYOUTS[family], family)
    with torch.device("meta"):
        return UNet2DConditionModel(**config | (SD21_CONFIG if family is SD2 else {}))


@pytest.mark.parametrize("family", TRANSFERABLE, ids=lambda family: family.name)
def test_carried_networks_are_the_published_ones(family: Family) -> None:
    """Catches a module missing from, or wrong in, the shapes carried instead of a checkpoint."""
    true = {
        f"unet.{name.removesuffix('.weight')}": tuple(weight.shape)
        for name, weight in true_unet(family).state_dict().items()
        if name.endswith(".weight") and weight.ndim >= 2
    }
    modules = reference_network(family).modules.values()
    assert {m.key: m.shape for m in modules if m.role.part == "unet"} == true
    assert sum(m.role.is_attention for m in modules) == TARGETS[family]


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["by_role", "by_depth", "shuffled"])
@pytest.mark.parametrize("target", TRANSFERABLE, ids=lambda family: family.name)
@pytest.mark.parametrize("source", TRANSFERABLE, ids=lambda family: family.name)
def test_every_target_module_is_reached(source: Family, target: Family, mapping: str) -> None:
    """Catches blocks of the target that no block of the source stands for."""
    carried = carry(source, target, mapping=mapping, fit="crop", keep=is_attention)
    counts = carried.report.counts
    assert counts["target_reached"] == counts["target_total"] == TARGETS[target]
    assert counts["total"] == TARGETS[source]
    assert counts["exact"] + counts["fitted"] + counts["skipped"] == counts["total"]
    goal = reference_network(target)
    wanted = filter(is_attention, goal.modules.values())
    shapes = {lora_name(goal, module): module.shape for module in wanted}
    for name, shape in shapes.items():
        down = carried.state[f"{name}.lora_down.weight"]
        assert carried.state[f"{name}.lora_up.weight"].shape[0] == shape[0]
        assert tuple(down.shape[1:]) == shape[1:]


def test_by_name_is_what_the_host_does_where_shapes_agree() -> None:
    """Catches accidental matches counted otherwise than ComfyUI's loader makes them."""
    counts = carry(SDXL, SD15, mapping="by_name").report
    assert counts.counts["total"] == 722
    assert counts.counts["exact"] == 50
    assert counts.counts["fitted"] == 0
    reasons = [one.reason.partition(":")[0] for one in counts.skipped]
    assert reasons.count("shape") == 46
    assert reasons.count("no module of this name in the target") == 626


@pytest.mark.slow
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("mapping", [name for name in MAPPINGS if name != "shuffled"])
def test_the_same_family_is_the_identity(mapping: str, fit: str, depth: str) -> None:
    """Catches a mapping that moves or changes anything where nothing needs to move."""
    state = lora_state(SMALL_XL, keep=everything)
    lora = read_lora(state, "x")
    recipe = TransferRecipe(mapping=mapping, fit=fit, depth=depth)
    carried = transfer(lora, Base(SMALL_XL), recipe)
    assert carried.state.keys() == state.keys()
    assert all(torch.equal(carried.state[key], state[key]) for key in state)
    assert carried.report.energy_kept == 1.0
    assert carried.report.counts["exact"] == len(lora.modules)


@pytest.mark.parametrize("family", TRANSFERABLE, ids=lambda family: family.name)
def test_the_identity_at_full_size_and_for_a_part(family: Family) -> None:
    """Catches a partial LoRA (cross-attention alone) spread over blocks that it did not have."""
    keep = some(["up_blocks.1.attentions.0.transformer_blocks.0.attn2"])
    state = lora_state(family, keep=keep)
    carried = transfer(
        read_lora(state, "x"), Base(reference_network(family)), TransferRecipe(mapping="by_role")
    )
    assert carried.state.keys() == state.keys()
    assert all(torch.equal(carried.state[key], state[key]) for key in state)


Q = "transformer_blocks_0_attn1_to_q"
FEEDS = {
    "by_role": {
        "down_blocks.0.attentions.1": f"input_blocks_5_1_{Q}",
        "down_blocks.2.attentions.0": f"input_blocks_7_1_{Q}",
        "mid_block.attentions.0": f"middle_block_1_{Q}",
        "up_blocks.1.attentions.2": f"output_blocks_2_1_{Q}",
        "up_blocks.3.attentions.0": f"output_blocks_3_1_{Q}",
    },
    # 70 blocks in a row onto 16: block i gets those from 70 i // 16 on.
    "by_depth": {
        "down_blocks.0.attentions.0": f"input_blocks_4_1_{Q}",
        "mid_block.attentions.0": f"middle_block_1_{Q.replace('0', '2', 1)}",
        "up_blocks.3.attentions.2": f"output_blocks_3_1_{Q.replace('0', '1', 1)}",
    },
}


@pytest.mark.parametrize("mapping", FEEDS)
def test_which_module_feeds_which(mapping: str) -> None:
    """Catches stages, levels or the order of working confused (from SDXL onto SD1.5)."""
    report = carry(SDXL, SD15, mapping=mapping, keep=some(["attn1.to_q"])).report
    fed_by = {patch.target.key: patch.sources for patch in report.patches}
    for site, source in FEEDS[mapping].items():
        target = f"unet.{site}.transformer_blocks.0.attn1.to_q"
        assert fed_by[target] == (f"lora_unet_{source}",)


def test_strict_names_both_families() -> None:
    """Catches a refusal that does not say what does not fit what."""
    with pytest.raises(LoraFileError, match=r"LoRA for SDXL and the model is SD1\.5; load a SDXL"):
        carry(SDXL, SD15, mapping="strict")


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("mapping", ["by_role", "shuffled"])
def test_same_seed_same_bytes(mapping: str, fit: str, tmp_path: Path) -> None:
    """Catches anything unseeded, and metadata that changes from run to run."""
    written = []
    for seed in (7, 7, 8):
        path = tmp_path / "lora.safetensors"
        carried = carry(SMALL_XL, SMALL_SD, mapping=mapping, fit=fit, seed=seed)
        write_tensors(path, carried.state, carried.metadata | {"glitch_transfer": "same"})
        written.append(path.read_bytes())
    assert written[0] == written[1]
    assert (written[0] != written[2]) == (mapping == "shuffled" or fit == "project")


def test_shuffled_permutes_within_shapes() -> None:
    """Catches a shuffle that loses modules, or puts them where they do not fit."""
    state = lora_state(SMALL_XL)
    carried = transfer(
        read_lora(state, "x"), Base(SMALL_XL), TransferRecipe(mapping="shuffled", seed=1)
    )
    assert carried.report.counts["exact"] == len(state) // 3
    before = sorted(float(t.double().sum()) for t in state.values())
    assert sorted(float(t.double().sum()) for t in carried.state.values()) == before
    moved = sum(not torch.equal(carried.state[key], state[key]) for key in state)
    assert moved > len(state) / 4


BLOCK = "transformer_blocks.{}.attn1.to_q"
SITE = "down_blocks.2.attentions.0."


def _ten_to_one(depth: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return what SD1.5's block gets from SDXL's ten, and the ten, built in full."""
    keep = some([f"{SITE}{BLOCK.format(i)}" for i in range(10)])
    state = lora_state(DEEP_XL, keep=keep, rank=3)
    modules = named_modules(read_lora(state, "x"), DEEP_XL)
    ten = [dense(state, module.name) for module in modules.values()]
    carried = transfer(
        read_lora(state, "x"), Base(reference_network(SD15)), TransferRecipe(depth=depth)
    )
    name = "lora_unet_down_blocks_2_attentions_0_transformer_blocks_0_attn1_to_q"
    assert len(carried.state) == 3
    return dense(carried.state, name), ten


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        ("first", lambda ten: ten[0]),
        ("last", lambda ten: ten[9]),
        ("each", lambda ten: sum(ten)),
    ],
    ids=["first", "last", "each"],
)
def test_depth_chooses_among_blocks(depth: str, expected: Any) -> None:
    """Catches the wrong one of ten blocks, or a sum that is not exact."""
    got, ten = _ten_to_one(depth)
    torch.testing.assert_close(got, expected(ten), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("depth", "share"), [("sum", 1.0), ("mean", 0.1)])
def test_sum_and_mean_are_the_best_of_their_rank(depth: str, share: float) -> None:
    """Catches a truncation that keeps other directions than the strongest."""
    got, ten = _ten_to_one(depth)
    total = sum(ten) * share
    best = torch.linalg.svdvals(total)[3:].norm()
    assert torch.linalg.matrix_rank(got) == 3
    assert (got - total).norm() <= 1.02 * best


def test_one_to_ten_feeds_all_ten() -> None:
    """Catches deep targets of which only the first block is patched."""
    keep = some(["down_blocks.2.attentions.0.transformer_blocks.0.attn1.to_q"])
    state = lora_state(SD15, keep=keep)
    carried = transfer(read_lora(state, "x"), Base(DEEP_XL), TransferRecipe())
    names = [f"lora_unet_input_blocks_7_1_transformer_blocks_{i}_attn1_to_q" for i in range(10)]
    assert sorted(carried.state) == sorted(
        f"{name}.{end}" for name in names for end in ("lora_down.weight", "lora_up.weight", "alpha")
    )
    torch.testing.assert_close(dense(carried.state, names[9]), dense(carried.state, names[0]))


@pytest.mark.parametrize(
    ("index", "count", "sources", "expected"),
    [(0, 1, 10, range(10)), (3, 4, 4, [3]), (9, 10, 1, [0]), (1, 4, 10, [2, 3, 4]), (2, 3, 2, [1])],
)
def test_bucket(index: int, count: int, sources: int, expected: Any) -> None:
    """Catches blocks counted twice or never."""
    assert list(bucket(index, count, sources)) == list(expected)


@pytest.mark.parametrize("fit", FITS)
def test_energy_and_loudness_are_those_of_the_dense_products(fit: str) -> None:
    """Catches a report that says other numbers than the file holds."""
    state = lora_state(SMALL_XL, alpha=0.5)
    lora = read_lora(state, "x")
    target = Base(SMALL_SD, measured=lambda module: 2.0)
    carried = transfer(lora, target, TransferRecipe(fit=fit, depth="each"))
    before = sum(float(dense(state, name).square().sum()) for name in lora.modules)
    after = {
        p.target.key: float(dense(carried.state, lora_name(SMALL_SD, p.target)).norm())
        for p in carried.report.patches
    }
    assert carried.report.energy_kept == pytest.approx(
        sum(norm**2 for norm in after.values()) / before, rel=1e-4
    )
    for patch in carried.report.patches:
        assert patch.loudness == pytest.approx(after[patch.target.key] / 2.0, rel=1e-4)


def test_match_keeps_each_modules_loudness() -> None:
    """Catches a norm matched against the wrong weight, source or target."""
    lora = read_lora(lora_state(SMALL_XL), "x")
    weights_there = {key: 1.0 + i for i, key in enumerate(SMALL_XL.modules)}
    weights_here = {key: 3.0 + i % 7 for i, key in enumerate(SMALL_SD.modules)}
    carried = transfer(
        lora,
        Base(SMALL_SD, measured=lambda module: weights_here[module.key]),
        TransferRecipe(norm="match"),
        source=Base(SMALL_XL, measured=lambda module: weights_there[module.key]),
    )
    key_of = {module.name: key for key, module in named_modules(lora, SMALL_XL).items()}
    assert carried.report.source_measured
    for patch in carried.report.patches:
        (name,) = patch.sources
        was = math.sqrt(lora.modules[name].energy) / weights_there[key_of[name]]
        norm = dense(carried.state, lora_name(SMALL_SD, patch.target)).norm()
        assert float(norm) / weights_here[patch.target.key] == pytest.approx(was, rel=1e-4)


def test_match_without_the_own_base_goes_by_width() -> None:
    """Catches an estimate that is not the identity where nothing changes size."""
    plain = carry(SMALL_XL, SMALL_XL)
    matched = carry(SMALL_XL, SMALL_XL, norm="match")
    for key, value in plain.state.items():
        torch.testing.assert_close(matched.state[key], value)
    assert "not at hand" in matched.report.to_markdown()


def test_a_given_loudness_is_reached_by_every_module() -> None:
    """Catches a gain that is not per module."""
    carried = carry(SMALL_XL, SMALL_SD, norm="loudness", loudness=0.25)
    for patch in carried.report.patches:
        norm = dense(carried.state, lora_name(SMALL_SD, patch.target)).norm()
        assert float(norm) / math.sqrt(patch.target.n_out / 3) == pytest.approx(0.25, rel=1e-4)


@pytest.mark.slow
def test_silent_modules_stay_silent() -> None:
    """Catches a division by zero for an untrained module, whose up factor is zero."""
    state = lora_state(SMALL_XL)
    silent = {key: torch.zeros_like(v) if "lora_up" in key else v for key, v in state.items()}
    for norm in NORMS:
        for fit in FITS:
            recipe = TransferRecipe(norm=norm, fit=fit)
            carried = transfer(read_lora(silent, "x"), Base(SMALL_SD), recipe)
            assert all(torch.isfinite(value).all() for value in carried.state.values())
            assert carried.report.energy_kept == 1.0
            draw_map(carried.report)


def test_second_text_encoder() -> None:
    """Catches text encoders crossed: te1 belongs to te, te2 comes along only when asked."""
    keep = some(["layers.0.self_attn.q_proj", "layers.31.mlp.fc2"])
    left_out = carry(VEGA, SD15, keep=keep)
    q = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    assert {key.partition(".")[0] for key in left_out.state} == {q}
    reasons = {one.name: one.reason for one in left_out.report.skipped}
    assert set(reasons.values()) == {"no second text encoder in the target"}
    onto = carry(VEGA, SD15, keep=keep, te2="by_layer_depth", depth="last")
    fc2 = "lora_te_text_model_encoder_layers_11_mlp_fc2"
    assert {key.partition(".")[0] for key in onto.state} == {q, fc2}
    assert onto.state[f"{q}.lora_down.weight"].shape == (4, 768)
    back = carry(SD15, VEGA, keep=some(["layers.11.mlp.fc2"]), te2="by_layer_depth")
    names = {key.partition(".")[0] for key in back.state}
    assert "lora_te1_text_model_encoder_layers_11_mlp_fc2" in names
    assert "lora_te2_text_model_encoder_layers_31_mlp_fc2" in names


def test_dora_keeps_its_magnitude_at_home_only() -> None:
    """Catches magnitudes of one base's weights put onto another's."""
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    block = "mid_block.attentions.0.transformer_blocks.0"
    state = lora_state(SD15, keep=some([f"{block}.attn1.to_q", f"{block}.attn2.to_k"]))
    state[f"{name}.dora_scale"] = torch.ones(1280, 1)
    lora = read_lora(state, "x")
    assert lora.kinds == ("LoRA", "DoRA")
    at_home = transfer(lora, Base(reference_network(SD15)), TransferRecipe())
    assert torch.equal(at_home.state[f"{name}.dora_scale"], state[f"{name}.dora_scale"])
    away = transfer(lora, Base(reference_network(SD2)), TransferRecipe())
    assert not any("dora" in key for key in away.state)
    assert away.report.dora_dropped == 1
    assert "direction only" in away.report.to_markdown()


def test_convolutions_are_carried_too() -> None:
    """Catches a LoCon of which only the transformers arrive."""
    carried = carry(SMALL_SD, SMALL_XL, keep=everything)
    counts = carried.report.counts
    convolutions = [m for m in SMALL_XL.modules.values() if m.kernel]
    reached = {patch.target.key for patch in carried.report.patches}
    assert {m.key for m in convolutions} <= reached
    unmatched = {"add_embedding.linear_1", "add_embedding.linear_2"}
    missing = {m.diffusers for m in SMALL_XL.modules.values() if m.role.part == "unet"
               and m.key not in reached}  # fmt: skip
    assert missing == unmatched
    assert counts["target_total"] - counts["target_reached"] == 2


@pytest.mark.parametrize("target", [SMALL_SD, SMALL_XL], ids=["home", "away"])
def test_convolutions_stored_flat(target: Network) -> None:
    """Catches the host's own trainer's LoRAs, whose convolutions are matrices with a gradient."""
    state = lora_state(SMALL_SD, keep=everything)
    flat = {
        key: torch.nn.Parameter(value.flatten(1)) if value.ndim == 4 else value
        for key, value in state.items()
    }
    plain, from_flat = (
        transfer(read_lora(one, "x"), Base(target), TransferRecipe()) for one in (state, flat)
    )
    assert from_flat.report.counts == plain.report.counts
    assert from_flat.state.keys() == plain.state.keys()
    assert all(torch.equal(from_flat.state[key], plain.state[key]) for key in plain.state)


def test_nothing_in_common_is_said() -> None:
    """Catches an empty LoRA returned as if it were one."""
    with pytest.raises(LoraFileError, match="No module of x .* reaches SD1.5"):
        carry(VEGA, SD15, mapping="by_name", keep=some(["up_blocks.0.attentions.2.proj_in"]))


@pytest.mark.parametrize(
    ("source", "target", "keep", "settings", "advice"),
    [
        (VEGA, SD15, "up_blocks.0.attentions.2.proj_in", {"mapping": "by_name"}, "by_role"),
        (SDXL, SD15, "layers.31.mlp.fc2", {}, "te2 by_layer_depth"),
        (SDXL, SD15, "layers.31.mlp.fc2", {"mapping": "shuffled"}, "by_role and te2 by_layer_dep"),
        (SD15, SSD1B, "mid_block.attentions", {"depth": "each"}, "by_depth"),
        (SDXL, SD15, "add_embedding", {}, None),
        (SDXL, SD15, "add_embedding", {"mapping": "by_depth", "te2": "by_layer_depth"}, None),
    ],
)
def test_advice_is_not_what_was_chosen(
    source: Family, target: Family, keep: str, settings: dict[str, Any], advice: str | None
) -> None:
    """Catches a sentence that sends one to the very setting that does not work."""
    with pytest.raises(LoraFileError) as caught:
        carry(source, target, keep=some([keep]), **settings)
    said = str(caught.value)
    if advice is None:
        assert said.endswith(", nor with another; choose another LoRA or model.")
        return
    assert f"; choose {advice}" in said
    advised = said.partition("; choose ")[2].rstrip(".").split(" and ")
    parts = (one.rpartition(" ") for one in advised)
    changed = {name or "mapping": value for name, _, value in parts}
    assert carry(source, target, keep=some([keep]), **{**settings, **changed}).state


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"mapping": "by_magic"}, "mapping must be one of"), ({"seed": -1}, "seed must be 0 to")],
)
def test_wrong_settings_are_named(settings: dict, said: str) -> None:
    """Catches a setting that is checked only when the work is half done."""
    with pytest.raises(RecipeError, match=said):
        TransferRecipe(**settings)


def test_the_reports_numbers_agree_with_each_other() -> None:
    """Catches a report whose parts were counted differently."""
    report = carry(SDXL, SD15, depth="mean", fit="tile").report
    told = report.to_dict()
    assert (told["source"], told["target"]) == ("SDXL", "SD1.5")
    assert len(told["skipped"]) == told["modules"]["skipped"]
    assert len(told["loudest"]) == 10
    loudness = [one["loudness"] for one in told["loudest"]]
    assert loudness == sorted(loudness, reverse=True)
    assert f"**{report.energy_kept:.3g}**" in report.to_markdown()


@pytest.mark.parametrize("target", [SD15, SDXL, SSD1B, VEGA], ids=lambda family: family.name)
def test_the_map_shows_every_module_once(target: Family) -> None:
    """Catches modules drawn over each other, or left out."""
    placed = sites(reference_network(target).modules.values())
    keys = [cell.key for site in placed for cell in site.cells]
    assert len(keys) == len(set(keys)) == TARGETS[target]
    for site in placed:
        corners = {(cell.x, cell.y) for cell in site.cells}
        assert len(corners) == len(site.cells)


def test_files_written_are_ordinary_safetensors(tmp_path: Path) -> None:
    """Catches a writer or reader of our own that disagrees with the library's."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    path = tmp_path / "x.safetensors"
    state = {
        "b": torch.randn(3, 4).half(),
        "0": torch.tensor(2.0).half(),
        "a": torch.tensor(2.0),
        "c": torch.ones(2, 2).bfloat16(),
    }
    write_tensors(path, state, {"z": "ü", "a": "1"})
    again = tmp_path / "again.safetensors"
    write_tensors(again, dict(reversed(state.items())), {"a": "1", "z": "ü"})
    assert again.read_bytes() == path.read_bytes()
    loaded = load_file(path)
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    with safe_open(path, framework="pt") as opened:
        assert opened.metadata() == {"z": "ü", "a": "1"}
    ours = TensorFile(path)
    assert all(torch.equal(ours[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("suffix", "shape"),
    [("lora_magnitude_vector", (32,)), ("lora_magnitude_vector.weight", (32,)),
     ("dora_scale", (32,)), ("dora_scale", (32, 1)), ("dora_scale", (1, 32))],
    ids=["peft", "peft's module", "flat", "LyCORIS", "LyCORIS by input"],
)  # fmt: skip
def test_magnitudes_get_the_shape_that_the_host_applies(suffix: str, shape: tuple) -> None:
    """Catches one number per output spread over the inputs of a square weight."""
    keep = some(["down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"])
    state = lora_state(SMALL_SD, keep=keep)
    name = next(iter(state)).partition(".")[0]
    magnitudes = torch.arange(32.0)
    state[f"{name}.{suffix}"] = magnitudes.reshape(shape)
    carried = transfer(read_lora(state, "x"), Base(SMALL_SD), TransferRecipe())
    expected = magnitudes[None] if shape == (1, 32) else magnitudes[:, None]
    assert torch.equal(carried.state[f"{name}.dora_scale"], expected)


def test_what_nobody_knows_stays_at_home() -> None:
    """Catches modules of the family's own that are dropped for want of a place in our list."""
    odd = "lora_te1_text_model_embeddings_token_embedding"
    state = lora_state(SMALL_XL, keep=some(["te2.text_projection", "unet.conv_in"]))
    state |= {f"{odd}.lora_down.weight": torch.ones(1, 768), f"{odd}.alpha": torch.tensor(1.0)}
    state[f"{odd}.lora_up.weight"] = torch.ones(49408, 1)
    carried = transfer(read_lora(state, "x"), Base(SMALL_XL), TransferRecipe())
    assert carried.state.keys() == state.keys()
    assert all(torch.equal(carried.state[key], state[key]) for key in state)
    (skipped,) = carried.report.skipped
    assert skipped.name == odd
    assert skipped.reason.endswith("; kept under its own name")


def test_peft_magnitudes_without_the_weights_are_said() -> None:
    """Catches numbers that mean one thing to peft and another to the host passed on in silence."""
    state = lora_state(SMALL_SD, keep=some(["conv_in"]))
    state["lora_unet_conv_in.lora_magnitude_vector"] = torch.ones(16)
    carried = transfer(read_lora(state, "x"), Base(SMALL_SD), TransferRecipe())
    assert carried.report.dora_as_read == 1
    assert "against ‖W‖, peft against ‖W + ΔW‖" in carried.report.to_markdown()


def test_peft_magnitudes_of_a_convolution() -> None:
    """Catches peft's (1, out, 1, 1) taken for one number per input."""
    state = lora_state(SMALL_SD, keep=some(["down_blocks.1.resnets.0.conv2"]))
    name = next(iter(state)).partition(".")[0]
    state[f"{name}.lora_magnitude_vector"] = torch.arange(32.0)[None, :, None, None]
    carried = transfer(read_lora(state, "x"), Base(SMALL_SD), TransferRecipe())
    scale = carried.state[f"{name}.dora_scale"]
    assert torch.equal(scale, torch.arange(32.0)[:, None, None, None])
