"""Which of the host's samplings are trained, and with which noise schedule."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from glitch_train.model.checkpoint_file import noise_of as noise_of_file
from glitch_train.training.objective import noise_schedule

pytestmark = pytest.mark.host

USABLE = ("EPS", "V_PREDICTION")


@pytest.fixture
def noise_of(pack):
    """Return the node's reader of samplings."""
    return pack("nodes.weights").noise_of


class Patched:
    """As much of a MODEL as the host's sampling nodes need."""

    def __init__(self, config) -> None:
        self.model = SimpleNamespace(model_config=config)
        self.sampling = None

    def clone(self) -> Patched:
        return Patched(self.model.model_config)

    def add_object_patch(self, name: str, value) -> None:
        if name == "model_sampling":
            self.sampling = value

    def get_model_object(self, _name: str):
        return self.sampling


def test_only_noise_and_v_prediction_of_a_model_pass(pack, noise_of) -> None:
    """Catches EDM, continuous v and image-to-image noise, which derive from those that pass."""
    import comfy.model_base as host

    error = pack("glitch_train.errors").CheckpointError
    config = SimpleNamespace(sampling_settings={})
    for kind in host.ModelType:
        sampling = host.model_sampling(config, kind)
        if kind.name in USABLE:
            prediction, alphas = noise_of(sampling)
            assert prediction == {"EPS": "epsilon"}.get(kind.name, "v_prediction")
            assert alphas is None  # a plain model loses what it lost, bit for bit
        else:
            with pytest.raises(error, match="MODEL samples by ModelSampling|StableCascade") as told:
                noise_of(sampling)
            assert type(sampling).__bases__[1].__name__ in str(told.value), kind


def test_the_hosts_node_of_discrete_samplings(pack, noise_of) -> None:
    """Catches its x0, LCM and image-to-image taken for noise prediction, and its zsnr ignored."""
    from comfy_extras import nodes_model_advanced as advanced

    error = pack("glitch_train.errors").CheckpointError
    node = advanced.ModelSamplingDiscrete()
    predictions = {"eps": "epsilon", "v_prediction": "v_prediction"}
    for name in node.INPUT_TYPES()["required"]["sampling"][0]:
        for zsnr in (False, True):
            sampling = node.patch(Patched(SimpleNamespace(sampling_settings={})), name, zsnr)[
                0
            ].sampling
            if name not in predictions:
                with pytest.raises(error, match="cannot be trained here"):
                    noise_of(sampling)
                continue
            prediction, alphas = noise_of(sampling)
            assert prediction == predictions[name]
            assert (alphas is not None) == zsnr
            if zsnr:
                theirs = 1 / (sampling.sigmas.double() ** 2 + 1)
                torch.testing.assert_close(alphas, theirs.float(), rtol=1e-6, atol=0)


def test_continuous_samplings_are_refused(pack, noise_of) -> None:
    """Catches what the host's node for EDM makes of eps and v, with sigmas of another range."""
    from comfy_extras import nodes_model_advanced as advanced

    error = pack("glitch_train.errors").CheckpointError
    for node in (advanced.ModelSamplingContinuousEDM(), advanced.ModelSamplingContinuousV()):
        for name in node.INPUT_TYPES()["required"]["sampling"][0]:
            patched = node.patch(Patched(SimpleNamespace(sampling_settings={})), name, 80.0, 0.002)
            with pytest.raises(error, match="take off the node"):
                noise_of(patched[0].sampling)


MARKS = [(), ("v_pred",), ("v_pred", "ztsnr"), ("ztsnr",)]


@pytest.mark.parametrize("marks", MARKS, ids=lambda marks: " ".join(marks) or "none")
def test_a_checkpoints_marks_mean_what_they_mean_to_the_host(pack, noise_of, marks) -> None:
    """Catches a schedule of the command line that is not the node's."""
    import comfy.model_base as host
    from comfy.supported_models import SDXL

    names = {mark: torch.tensor([]) for mark in marks}
    config = SimpleNamespace(sampling_settings={})
    sampling = host.model_sampling(config, SDXL.model_type(config, names))
    theirs_prediction, theirs = noise_of(sampling)
    prediction, mine = noise_of_file(names)
    assert prediction == theirs_prediction
    assert (mine is None) == (theirs is None)
    alphas = noise_schedule(prediction, mine).alphas_cumprod
    expected = 1 / (sampling.sigmas.double() ** 2 + 1)
    torch.testing.assert_close(alphas, expected.float(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("marks", [("edm_mean", "edm_std"), ("edm_vpred.sigma_max",)])
def test_a_file_of_edm_is_refused_in_both(pack, noise_of, marks) -> None:
    """Catches Playground 2.5 or CosXL trained as something else."""
    import comfy.model_base as host
    from comfy.supported_models import SDXL

    from glitch_train.errors import CheckpointError

    names = {mark: torch.tensor(80.0) for mark in marks}
    config = SimpleNamespace(sampling_settings={})
    sampling = host.model_sampling(config, SDXL.model_type(config, names))
    with pytest.raises(pack("glitch_train.errors").CheckpointError, match="cannot be trained"):
        noise_of(sampling)
    with pytest.raises(CheckpointError, match="cannot be trained"):
        noise_of_file(names)


def test_latents_are_kept_apart_by_what_the_vae_computes_in(pack) -> None:
    """Catches NaN out of fp16 that would still be found after a start with --fp32-vae."""
    model = SimpleNamespace(model=SimpleNamespace(process_latent_in=None, process_latent_out=None))
    clip = SimpleNamespace(cond_stage_model=None)
    weights = {"conv": torch.ones(2, dtype=torch.float16)}

    def key(dtype: torch.dtype) -> str:
        vae = SimpleNamespace(
            first_stage_model=SimpleNamespace(state_dict=lambda: weights), vae_dtype=dtype
        )
        return pack("nodes.weights").encoders(model, clip, vae).vae_key

    assert key(torch.float16) == key(torch.float16) != key(torch.float32)
