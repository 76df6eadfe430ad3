"""Training the text encoders: what is trained, what is left alone, what is saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import start_text_encoders
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from glitch_train.errors import RecipeError
from glitch_train.lora.file import to_kohya
from glitch_train.lora.targets import text_encoder_targets
from glitch_train.recipe.train import TrainRecipe

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("layers", "width", "heads", "modules"), [(12, 768, 12, 72), (32, 1280, 20, 192)]
)
def test_kohyas_number_of_targets(layers: int, width: int, heads: int, modules: int) -> None:
    """Catches a Linear missing from attention or MLP, or the projection taken in."""
    with torch.device("meta"):
        tower = CLIPTextModelWithProjection(
            CLIPTextConfig(
                num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads,
                intermediate_size=4 * width, projection_dim=width,
            )
        )  # fmt: skip
    assert len(text_encoder_targets(tower)) == modules


def test_the_first_loss_is_that_of_frozen_encoders(tmp_path: Path) -> None:
    """Catches captions encoded differently while the encoders are trained."""
    frozen = [report.loss for report in start_text_encoders(tmp_path / "a")]
    trained = [
        report.loss
        for report in start_text_encoders(
            tmp_path / "b", train_text_encoder=True, text_encoder_lr=0.05
        )
    ]
    assert trained[0] == pytest.approx(frozen[0], rel=1e-5)
    assert trained[2] != pytest.approx(frozen[2], rel=1e-5)


def test_text_encoder_only_leaves_the_unet_alone(tmp_path: Path) -> None:
    """Catches a UNet that is trained along, or encoders that are not."""
    training = start_text_encoders(tmp_path, text_encoder_only=True, text_encoder_lr=0.01)
    tower = training.base.text_encoders[0].model
    before = {name: value.clone() for name, value in tower.named_parameters()}
    reports = list(training)
    assert training.lora.unet == {}
    assert not any(".lora_" in name for name, _ in training.base.unet.named_parameters())
    changed = {name for name, value in tower.named_parameters() if not value.equal(before[name])}
    assert changed == {name for name in before if ".lora_" in name}
    assert reports[0].text_encoder_lr == 0.01
    assert reports[0].learning_rate != reports[0].learning_rate  # NaN: there is none


def test_both_learning_rates_arrive(tmp_path: Path) -> None:
    """Catches one rate used for both parts."""
    training = start_text_encoders(
        tmp_path, train_text_encoder=True, learning_rate=3e-4, text_encoder_lr=7e-6,
        lr_scheduler="constant_with_warmup", warmup_steps=2,
    )  # fmt: skip
    rates = [(report.learning_rate, report.text_encoder_lr) for report in training]
    assert rates[0] == (0, 0)
    assert rates[2] == pytest.approx((3e-4, 7e-6))


def test_keys_of_the_file(tmp_path: Path) -> None:
    """Catches keys that the host and kohya's readers would not recognise."""
    training = start_text_encoders(tmp_path, train_text_encoder=True)
    names = {key.split(".")[0] for key in to_kohya(training.lora, training.base)}
    text = sorted(name for name in names if name.startswith("lora_te"))
    assert len(text) == 2 * 6
    assert text[0] == "lora_te_text_model_encoder_layers_0_mlp_fc1"


def test_prodigy_takes_one_learning_rate() -> None:
    """Catches prodigyopt's own exception after the pictures were encoded."""
    with pytest.raises(RecipeError, match="text_encoder_lr must equal learning_rate"):
        TrainRecipe(optimizer="Prodigy", train_text_encoder=True, learning_rate=1.0)
