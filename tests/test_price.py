"""What a sweep costs on one GPU: against counts by torch and by hand."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from iddmbench.cli import app
from iddmbench.run.config import make_config
from iddmbench.sweep import price
from iddmbench.sweep.config import Sweep, load_sweep

runner = CliRunner()


def priced(**runs: dict) -> dict[str, price.Price]:
    found = price.prices(Sweep("test", "", {name: make_config(settings) for name, settings in runs.items()}))
    return {one.run: one for one in found}


@pytest.mark.slow
def test_passes_by_torch_s_own_counter() -> None:
    """Stable Diffusion's UNet and VAE at 512 pixels, on no device: shapes alone."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
        down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
        vae = AutoencoderKL(3, 3, down, up, (128, 256, 512, 512), layers_per_block=2, latent_channels=4)

    def tflop(module: torch.nn.Module, *shapes: tuple[int, ...]) -> float:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(*(torch.zeros(shape, device="meta") for shape in shapes))
        return counter.get_total_flops() / 1e12

    assert tflop(unet, (1, 4, 64, 64), (1,), (1, 77, 768)) == pytest.approx(price.UNET, rel=0.01)
    assert tflop(vae.encoder, (1, 3, 512, 512)) == pytest.approx(price.ENCODE, rel=0.01)
    assert tflop(vae.decoder, (1, 4, 64, 64)) == pytest.approx(price.DECODE, rel=0.01)
    assert sum(p.numel() for p in unet.parameters()) * 4 / 1e9 == pytest.approx(price.UNET_GB, rel=0.01)


def test_hours_by_hand() -> None:
    """Undefended alone, two people: 400 LoRA steps of 2 + 2 images, 200 class images, 5 prompts x 4 images of 25 steps each."""
    usual = {"base": "sd15", "defenses": ["none"], "anchors": False, "subjects": 2, "precision": "bf16"}
    image = 25 * 2 * price.UNET + price.DECODE
    tflop = 200 * image + 2 * (400 * 4 * 2 * price.UNET + 20 * image)
    one = priced(a=usual)["a"]
    assert one.cells == 2 and one.hours == pytest.approx(tflop / 100 / 3600)
    half = price.prices(Sweep("test", "", {"a": make_config(usual)}), tflops=50)[0]
    assert half.hours == pytest.approx(2 * one.hours)
    assert priced(a={**usual, "precision": "fp32"})["a"].hours == pytest.approx(2 * one.hours)
    # 20 images in the cache and in the run folder, and an adapter of rank 16, for each person
    assert one.disk == pytest.approx(2 * (2 * 20 * 0.45e-3 + 16 * 0.8e-3))


def test_what_defenses_add() -> None:
    """ASPL: 50 rounds of 2 x 3 victim steps (two images, all weights) and 6 steps on the pixels of four photos."""
    usual = {"base": "sd21", "precision": "bf16", "subjects": 1, "strengths": [1]}
    plain, defended = priced(a={**usual, "defenses": ["none"]})["a"], priced(a={**usual, "defenses": ["aspl"]})["a"]
    rounds = 50 * (6 * 2 * 3 * price.UNET + 6 * 4 * 2 * (price.UNET + price.ENCODE))
    model = 400 * 4 * 2 * price.UNET + 20 * (50 * price.UNET + price.DECODE)
    assert defended.hours - plain.hours == pytest.approx((rounds + model) / 100 / 3600)
    assert defended.memory > plain.memory > price.UNET_GB
    whole = priced(a={**usual, "defenses": ["none"], "personalizer": "dreambooth"})["a"]
    assert whole.disk > 3.4 and whole.memory > plain.memory + 3 * price.UNET_GB


def test_what_two_runs_share_is_counted_once() -> None:
    usual = {"base": "sd15", "defenses": ["aspl"], "strengths": [1]}
    two = priced(
        owner=usual,
        stolen={**usual, "threat": "unauthorized"},
        jpeg={**usual, "threat": "unauthorized", "purify": "jpeg-75"},
    )
    assert two["stolen"].hours == 0 and two["stolen"].uncounted == () and 0 < two["jpeg"].hours < two["owner"].hours


def test_what_is_not_known_is_said() -> None:
    """A defense that changes the base: its models are counted, its own work is not."""
    one = priced(a={"base": "sd15", "defenses": ["apdm"], "strengths": [1]})["a"]
    assert one.uncounted == ("apdm",)
    assert one.hours > priced(a={"base": "sd15", "defenses": ["blur"], "strengths": [1]})["a"].hours


def test_people_of_a_protocol() -> None:
    assert price.people(make_config({"protocol": "anti-dreambooth"})) == 50
    assert price.people(make_config({"dataset": "vggface2", "subjects": "all"})) == 30
    assert price.people(make_config({"subject": ["a", "b"]})) == 2
    parts = {"": 48, "report": 48, "tuning": 12, "all": 60}
    for part, count in parts.items():
        options = {"part": part} if part else {}
        assert price.people(make_config({"dataset_options": options, "subjects": "all"})) == count, part
    assert price.people(make_config({})) == 4


def test_a_dry_run_of_the_papers_suite(tmp_path: Path) -> None:
    """The price needs neither photos nor weights; what is missing to start follows it, in one line."""
    result = runner.invoke(app, ["sweep", "paper", "--dry-run", "--only", "amt-gan", "--cache", str(tmp_path)])
    assert "GPU hours" in result.output and "amt-gan-celebahq" in result.output and "disk" in result.output
    assert result.exit_code == 2
    [line] = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert "ir152.pth" in line and "github.com/CGCL-codes/AMT-GAN" in line
    assert all(one.hours is not None for one in price.prices(load_sweep("paper", check=False)))
    assert priced(a={})["a"].hours is None, "the embedded base has no such price"
    wrong = runner.invoke(app, ["sweep", "paper", "--dry-run", "--gpu-tflops", "0"])
    assert "error: --gpu-tflops 0: give a number above 0" in wrong.stderr
