"""The trainings of the lip-aligned generator: what learns, what stays, what resumes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from emotalking.errors import InputError
from emotalking.stylegan.adversarial import AdversarialConfig, AdversarialTask
from emotalking.stylegan.critics import CriticsTask, SmallCritics, SmallEncoder, VariedCritics, true_maps
from emotalking.stylegan.edit_training import EditConfig, EmotionTask, LipTask, steps_of
from emotalking.stylegan.inversion import EncoderTask, Inversion, PivotalTask, style_distance
from emotalking.stylegan.stylegan2 import StyleGAN2, StyleGAN2Size, to_images
from emotalking.stylegan.training import clear, run

from .faces import SIZE, FormulaCritics, network, sources

FAST = replace(EditConfig(), batch=2, mapping_rate=3e-3, generator_rate=1e-3)


def kept(module: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(module: nn.Module, before: dict[str, Tensor]) -> bool:
    """Return True if no weight has changed."""
    return all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_emotion_training_moves_only_emoextract_and_lowers_its_loss(tmp_path: Path) -> None:
    whole = network()
    frozen = kept(whole.generator)
    rows = run(EmotionTask(whole, FormulaCritics(), sources(), FAST), 40, tmp_path)
    assert same(whole.generator, frozen)
    first, last = rows[0]["terms"], rows[-1]["terms"]
    assert last["emotion"] < 0.8 * first["emotion"]
    assert {"identity", "background", "landmark", "size", "reconstruction", "latent"} <= set(first)


def test_lip_training_freezes_emoextract_and_tunes_the_synthesis(tmp_path: Path) -> None:
    whole, data = network(), sources()
    emotion, mapping, synthesis = kept(whole.emotion), kept(whole.generator.mapping), kept(whole.generator.synthesis)
    rows = run(LipTask(whole, FormulaCritics(), data, FAST), 40, tmp_path)
    assert same(whole.emotion, emotion) and same(whole.generator.mapping, mapping)
    assert not same(whole.generator.synthesis, synthesis)
    assert rows[-1]["terms"]["landmark"] < 0.7 * rows[0]["terms"]["landmark"]
    assert set(rows[0]["terms"]) == {"landmark", "pixel", "size", "emotion", "identity", "total"}
    with torch.no_grad():
        faces, ibug68, styles = data.pick(torch.arange(3))
        va = torch.tensor([[0.5, 0.5]]).expand(3, 2)
        lips = FormulaCritics().points(faces, ibug68).lips
        edited = whole.move(styles, va, lips)
        torch.testing.assert_close(edited.styles, styles + edited.d_emotion + edited.d_lip)
        assert whole.move(styles, va).d_lip is None
    untouched = network()
    before = kept(untouched.generator)
    run(LipTask(untouched, FormulaCritics(), data, FAST, tune_generator=False), 3, tmp_path / "frozen")
    assert same(untouched.generator, before)


def test_the_terms_of_a_step_add_up_with_the_papers_weights(tmp_path: Path) -> None:
    task = LipTask(network(), FormulaCritics(), sources(), FAST)
    terms = task.step("other", torch.zeros(()))
    weights = {"landmark": 1, "pixel": 5, "size": 0.03, "emotion": 0.2, "identity": 1.5}
    assert float(terms["total"]) == pytest.approx(sum(weights[n] * float(terms[n]) for n in weights), rel=1e-5)
    assert steps_of(EditConfig(), 1000) == 2500  # ten epochs, four a step


def test_a_run_goes_on_where_it_was_cut(tmp_path: Path, one_thread: None) -> None:
    def learnt(folder: Path, cut: bool) -> dict[str, Tensor]:
        whole = network()
        task = LipTask(whole, FormulaCritics(), sources(), FAST)
        if cut:
            step = task.step

            def killed(kind: str, number: Tensor) -> dict[str, Tensor]:
                if number == 5:
                    raise KeyboardInterrupt
                return step(kind, number)

            task.step = killed  # type: ignore[method-assign]
            with pytest.raises(KeyboardInterrupt):
                run(task, 8, folder, checkpoint_every=4)
            assert (folder / "lips.pt").exists()
            whole = network()
            task = LipTask(whole, FormulaCritics(), sources(), FAST)
        run(task, 8, folder, checkpoint_every=4)
        again = LipTask(whole, FormulaCritics(), sources(), FAST)
        assert run(again, 8, folder)[-1]["iteration"] == 8  # done: nothing is learnt twice
        clear(["lips"], folder)
        assert not (folder / "lips.pt").exists()
        return kept(whole)

    straight, resumed = learnt(tmp_path / "a", False), learnt(tmp_path / "b", True)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_foreign_checkpoints_and_infinite_losses_end_with_a_sentence(tmp_path: Path) -> None:
    torch.save({"version": 1, "task": "lips", "done": 3, "modules": {}, "optimizers": {}}, tmp_path / "lips.pt")
    with pytest.raises(InputError, match="belongs to a training with other settings"):
        run(LipTask(network(), FormulaCritics(), sources(), FAST), 4, tmp_path)
    (tmp_path / "lips.pt").write_bytes(b"half")
    with pytest.raises(InputError, match="damaged"):
        run(LipTask(network(), FormulaCritics(), sources(), FAST), 4, tmp_path)
    (tmp_path / "lips.pt").unlink()
    broken = sources()
    broken.styles[:] = float("nan")
    with pytest.raises(InputError, match="'lips' stopped at step 1: the loss"):
        run(LipTask(network(), FormulaCritics(), broken, FAST), 1, tmp_path)


def test_adversarial_training_learns_the_colour_of_its_images(tmp_path: Path, one_thread: None) -> None:
    torch.manual_seed(0)
    size = StyleGAN2Size(resolution=8, channel_base=64, channel_max=8, style_dim=8, mapping_layers=2)
    images = torch.full((32, 8, 8, 3), 200, dtype=torch.uint8)
    images[..., 2] = 40
    images += torch.randint(0, 20, images.shape, dtype=torch.uint8)
    drawn = StyleGAN2(size)
    config = AdversarialConfig(batch=4, r1=1.0, r1_every=4, path=2.0, path_every=4, average_kimg=0.05)
    task = AdversarialTask(drawn, images, config)
    rows = run(task, 80, tmp_path)
    assert {"discriminator", "generator", "r1", "path", "fooled", "trusted"} <= set(rows[0]["terms"])
    with torch.no_grad():
        colours = to_images(task.average(torch.randn(16, SIZE.style_dim))).mean((0, 1, 2))
    assert colours[0] > 0.6 and colours[2] < 0.4
    assert task.average.mapping.w_avg.abs().sum() > 0


def test_an_encoder_learns_to_invert_alone_and_against_the_discriminator(tmp_path: Path, one_thread: None) -> None:
    torch.manual_seed(0)
    data = sources(8)
    data.faces[:] = (60 + 120 * torch.rand(8, 1, 1, 3)).byte()  # eight colours
    drawn = StyleGAN2(SIZE)
    seen = Inversion(SmallEncoder(SIZE, 8), FormulaCritics(), data.faces, data.ibug68)
    rows = run(EncoderTask(drawn, seen, batch=4), 40, tmp_path)
    first, last = rows[0]["terms"], rows[-1]["terms"]
    assert set(first) == {"recorded", "lips", "eyes", "maps", "emotion", "identity", "spread", "styles"}
    assert last["recorded"] < 0.8 * first["recorded"] and last["lips"] < 0.8 * first["lips"]
    config = AdversarialConfig(batch=4, rate=1e-3, r1=1.0, average_kimg=0.02)
    task = AdversarialTask(drawn, data.faces, config, seen)
    rows = run(task, 4, tmp_path)
    assert set(first) - {"styles"} | {"discriminator", "generator", "fooled", "trusted", "r1"} == set(rows[0]["terms"])
    before = kept(task.average_encoder)
    task.settle()
    moved = {
        name for name, tensor in task.average_encoder.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert moved == {name for name in before if "running" in name or "num_batches" in name}
    assert not task.average_encoder.training
    assert task.average_encoder(data.faces.float() / 255).shape == (8, SIZE.styles, SIZE.style_dim)


def test_regularisers_come_in_their_turn() -> None:
    config = AdversarialConfig(batch=4, r1_every=4, path=2.0, path_every=2)
    task = AdversarialTask(StyleGAN2(SIZE), torch.zeros(4, 16, 16, 3, dtype=torch.uint8), config)
    assert [task.kind(number) for number in range(4)] == ["plain+r1+path", "plain", "plain+path", "plain"]


def test_gradient_penalty_is_the_squared_slope() -> None:
    torch.manual_seed(0)
    task = AdversarialTask(StyleGAN2(SIZE), torch.zeros(4, 16, 16, 3, dtype=torch.uint8), AdversarialConfig(batch=4))
    real = torch.randn(4, 3, 16, 16)
    terms = task._discriminator_step(real.clone(), torch.randn(4, 3, 16, 16), True)
    torch.manual_seed(0)
    fresh = AdversarialTask(StyleGAN2(SIZE), torch.zeros(4, 16, 16, 3, dtype=torch.uint8), AdversarialConfig(batch=4))
    x = real.double().requires_grad_()
    (slope,) = torch.autograd.grad(fresh.discriminator.double()(x).sum(), x)
    assert float(terms["r1"].detach()) == pytest.approx(slope.square().sum((1, 2, 3)).mean().item(), rel=1e-3)


def test_pivotal_tuning_draws_faces_better(tmp_path: Path) -> None:
    torch.manual_seed(0)
    drawn = StyleGAN2(SIZE).requires_grad_(False)
    drawn.mapping.track(drawn.mapping(torch.randn(64, SIZE.style_dim)), decay=0.0)
    styles = drawn.mapping(torch.randn(2, SIZE.style_dim))[:, None].repeat(1, SIZE.styles, 1)
    target = to_images(drawn.synthesis(styles)).detach()
    faces = (target * 255).round().byte().flip(2)  # something that the styles do not draw
    before = (to_images(drawn.synthesis(styles)) - faces.float() / 255).abs().mean()
    mapping = kept(drawn.mapping)
    rows = run(PivotalTask(drawn, faces, styles, batch=2, rate=3e-3), 40, tmp_path)
    after = (to_images(drawn.synthesis(styles)) - faces.float() / 255).abs().mean()
    assert after < 0.8 * before and same(drawn.mapping, mapping)
    assert rows[-1]["terms"]["locality"] > 0


def test_distance_of_styles_is_that_of_clouds() -> None:
    torch.manual_seed(0)
    cloud = torch.randn(64, 3)
    assert style_distance(cloud, cloud.flip(0)) < 1e-10  # whatever the order
    moved = style_distance(cloud, cloud + torch.tensor([3.0, 0.0, 0.0]))
    assert float(moved) == pytest.approx(9 / 3, rel=0.2)  # a third of the directions' squares, in the mean


def test_varied_critics_vary_what_learns_and_read_sources_as_they_are() -> None:
    torch.manual_seed(0)
    critics = SmallCritics(4, 8).eval().requires_grad_(False)
    faces, ibug68 = torch.rand(3, 16, 16, 3), torch.zeros(3, 68, 2)
    seen = VariedCritics(critics)
    torch.testing.assert_close(seen.emotion(faces, ibug68), critics.emotion(faces, ibug68))
    learnt = faces.clone().requires_grad_()
    first, again = seen.identity(learnt, ibug68), seen.identity(learnt, ibug68)
    assert not torch.allclose(first, again)
    (slope,) = torch.autograd.grad(seen.points(learnt, ibug68).maps.sum() + seen.emotion(learnt, ibug68).sum(), learnt)
    assert torch.isfinite(slope).all() and slope.abs().sum() > 0


def test_small_critics_learn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = sources(8)
    critics = SmallCritics(people=4, width=8)
    va, person = torch.rand(8, 2), torch.arange(8) % 4
    task = CriticsTask(critics, data.faces, data.ibug68, va, person, steps=40, batch=2)
    rows = run(task, 40, tmp_path)
    assert rows[-1]["terms"]["maps"] < 0.8 * rows[0]["terms"]["maps"]
    with torch.no_grad():
        faces = data.faces.float() / 255
        found = critics.eval().points(faces, data.ibug68)
        assert found.lips.shape == (8, 20, 64, 64) and found.points.shape == (8, 68, 2)
        torch.testing.assert_close(critics.identity(faces, data.ibug68).norm(dim=1), torch.ones(8))
    assert true_maps(torch.zeros(1, 1, 2))[0, 0, 31:33, 31:33].min() > 0.8
