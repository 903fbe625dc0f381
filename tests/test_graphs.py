"""What is recorded, when, and what happens when it fails: with a stand-in for a graph that computes at every replay."""

import dataclasses

import pytest
import torch
from test_phase_inputs import CONFIGS, PHASES
from test_training_step import batch, tiny_config, trainer_of

from stylegan2_pipeline import graphs
from stylegan2_pipeline.bundles import tensors_of
from stylegan2_pipeline.config import AugmentConfig, LossConfig
from stylegan2_pipeline.graphs import WARM_UP, Graphs, distance
from stylegan2_pipeline.training_step import Trainer


class StandIn:
    """Records a function and computes it again, on the tensors that it closes over, into those that it gave."""

    def __init__(self, spoil=None, stale=False):
        self.recorded, self.replayed, self.spoil, self.stale = 0, 0, spoil, stale

    def warm_up(self, run):
        run()

    def record(self, run):
        if self.spoil:
            raise self.spoil
        result = run()
        self.recorded += 1

        def replay():
            self.replayed += 1
            again = run()
            if not self.stale:
                result[0].copy_(again[0])
        return replay, result


def with_graphs(config, recorder=None, said=None, **options):
    trainer = trainer_of(config)
    trainer.graphs = Graphs(recorder or StandIn(), (said if said is not None else []).append, **options)
    trainer.tell = (said if said is not None else []).append
    return trainer


def config_of(name="noaug", **changes):
    settings = {key: value for key, value in CONFIGS[name].items() if key == "augment"}
    return tiny_config(**settings, cuda_graphs=True, **changes)


def everything(trainer):
    states = [value for net in trainer.networks.values() for value in net.state_dict().values()]
    states += [t for o in trainer.optimizers.values() for state in o.state_dict()["state"].values()
               for t in state.values()]
    stats = trainer.collector.harvest()
    return [*states, trainer.pl_mean, trainer.lecam, *(torch.tensor(stats[name]) for name in sorted(stats))]


LAZY = LossConfig(r1_gamma=1.0, lecam_weight=0.3, g_reg_interval=2, d_reg_interval=3)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name", ["noaug", "bg", "diffaugment and lecam"])
def test_training_with_graphs_is_that_without_to_the_bit(name, parts):
    """Gradients added up over parts, terms and kinds of computing; parameters without one stay without."""
    found = []
    for graphed in (False, True):
        config = config_of(name, loss=LAZY, batch_gpu=8 // parts)
        trainer = with_graphs(config) if graphed else trainer_of(config)
        for k in range(11):
            trainer.step(*batch(config, seed=k))
        found.append(everything(trainer))
    recorder = trainer.graphs.recorder
    assert recorder.recorded >= 4 and recorder.replayed > recorder.recorded
    assert len(found[0]) == len(found[1]) and all(map(torch.equal, *found))


@pytest.mark.parametrize("phase_name", PHASES)
def test_uses_are_computed_then_recorded_then_compared_then_played(phase_name):
    config, said = config_of(), []
    trainer = with_graphs(config, said=said)
    phase = next(phase for phase in trainer.phases if phase.name == phase_name)
    terms = 2 if phase_name == "Dmain" else 1
    seen = []
    for k in range(WARM_UP + 4):
        trainer.run_phase(phase, *batch(config, k))
        trainer.cur_nimg += 8
        recorder = trainer.graphs.recorder
        seen.append((recorder.recorded, recorder.replayed))
    expected = [(0, 0)] * WARM_UP + [(1, 0), (1, 1), (1, 2), (1, 3)]
    assert seen == [(a * terms, b * terms) for a, b in expected] and not said
    assert all(parameter.grad is None for parameter in phase.params)


@pytest.mark.parametrize("recorder", [StandIn(spoil=RuntimeError("operation not permitted\nwhen capturing")),
                                      StandIn(stale=True)])
def test_what_cannot_be_recorded_or_is_wrong_goes_on_without_and_says_so_once(recorder):
    config, said = config_of(), []
    trainer, plain = with_graphs(config, recorder, said), trainer_of(config)
    for k in range(8):
        for one in (trainer, plain):
            one.run_phase(one.phases[0], *batch(config, k))
            one.cur_nimg += 8
    line, = said
    assert line.startswith("CUDA graphs: GeneratorMain of 8 images goes on without one, because ") and "\n" not in line
    assert ("what it computes is off by" if recorder.stale else "it cannot be recorded: RuntimeError: oper") in line
    assert all(map(torch.equal, trainer.G.state_dict().values(), plain.G.state_dict().values()))


def test_a_gradient_that_lacks_a_parameter_is_noticed(monkeypatch):
    config, said = config_of(), []
    trainer = with_graphs(config, said=said)
    real = Graphs._record
    monkeypatch.setattr(Graphs, "_record", lambda *args: (r := real(*args))._replace(used=r.used[1:]))
    for k in range(6):
        trainer.run_phase(trainer.phases[0], *batch(config, k))
    assert len(said) == 1 and "of other parameters" in said[0]


def test_a_loss_that_is_not_finite_puts_the_comparison_off():
    config, said = config_of(), []
    trainer = with_graphs(config, said=said)
    phase = next(phase for phase in trainer.phases if phase.name == "Dreg")
    for k in range(WARM_UP + 3):
        real, c = batch(config, k)
        if k == WARM_UP + 1:  # where the first replay is
            real[0, 0, 3, 3] = float("nan")
        trainer.run_phase(phase, real, c)
        entry, = trainer.graphs.entries.values()
        assert entry.trusted == (k == WARM_UP + 2)
    assert not said


def test_only_so_many_are_kept_and_what_comes_and_goes_is_recorded_less_and_less():
    config = config_of()
    trainer = with_graphs(config, most=1)
    phases = [phase for phase in trainer.phases if phase.name in ("Gmain", "Dreg")]
    for k in range(40):
        for phase in phases:
            trainer.run_phase(phase, *batch(config, k))
    entries = list(trainer.graphs.entries.values())
    assert len(entries) == 2 and sum(entry.recorded is not None for entry in entries) == 1
    assert trainer.graphs.recorder.recorded <= 10


def test_parts_of_another_size_have_graphs_of_their_own():
    config = config_of()
    trainer = with_graphs(config)
    for size in (8, 4):
        trainer.batch_gpu = size
        for k in range(5):
            trainer.run_phase(trainer.phases[0], *batch(config, k))
    counts = [tensors_of(entry.recorded.inputs and tuple(entry.recorded.inputs))[0].shape[0]
              for entry in trainer.graphs.entries.values()]
    assert counts == [8, 4]


def test_memory_that_runs_out_lets_go_of_the_graphs_first(monkeypatch):
    config, said = config_of(), []
    trainer = with_graphs(config, said=said)
    for k in range(5):
        trainer.step(*batch(config, k))
    work = Trainer._differentiate

    def differentiate(self, phase, parts):
        if self.graphs is not None:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return work(self, phase, parts)

    monkeypatch.setattr(Trainer, "_differentiate", differentiate)
    trainer.step(*batch(config, 5))
    assert said == ["The memory does not hold 8 images at once and the CUDA graphs besides: going on without graphs "
                    "(--cuda-graphs=0 starts so)."]
    assert trainer.graphs is None and trainer.batch_gpu == 8


def test_modules_are_watched_without_graphs():
    from stylegan2_pipeline.divergence import locate

    config = config_of()
    trainer = with_graphs(config)
    for k in range(5):
        trainer.step(*batch(config, k))
    trainer.D.b16.conv0.weight.data.fill_(1e38)
    replayed = trainer.graphs.recorder.replayed
    assert "b16.conv0" in locate(trainer, trainer.phases[0], *batch(config, 4))
    assert trainer.graphs.recorder.replayed == replayed


def test_a_stopped_run_with_graphs_goes_on_to_the_same_bits():
    from stylegan2_pipeline.training_state import restore_trainer, trainer_state

    config = config_of(loss=LAZY)
    config = dataclasses.replace(config, augment=AugmentConfig(pipe="bg", kimg=0.05))
    straight, first, second = (with_graphs(config) for _ in range(3))
    for k in range(6):
        for trainer in (straight, first):
            trainer.step(*batch(config, k))
    restore_trainer(second, trainer_state(first))
    for k in range(6, 10):
        for trainer in (straight, second):
            trainer.step(*batch(config, k))
    assert all(map(torch.equal, everything(straight), everything(second)))


def test_distances():
    a, b = torch.tensor([3.0, 4.0]), torch.tensor(12.0)
    assert distance([a, b], [a, b]) == 0 and distance([a, b * 0], [a, b]) == pytest.approx(12 / 13)
    assert distance([a * float("nan")], [a]) == float("inf")
    assert distance([a], [a * 0]) is None and distance([a], [a / 0]) is None
    assert graphs.TOLERANCE < 0.1
