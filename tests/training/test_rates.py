import pytest

from transformer.training.flops import BatchCounts
from transformer.training.rates import Rates

BATCH = BatchCounts(source_tokens=50, target_tokens=60, padded_source_tokens=80, padded_target_tokens=100)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def make(clock, **options):
    return Rates(lambda counts: 1000.0 * counts.target_tokens, peak_flops=240_000.0, clock=clock, **options)


def train(rates, clock, steps, wait=0.5, work=1.5):
    for _ in range(steps):
        with rates.waiting():
            clock.now += wait
        clock.now += work
        rates.step(BATCH)


def test_every_field_of_a_window_by_hand():
    clock = Clock()
    rates = make(clock)
    train(rates, clock, 4)
    assert rates.take() == pytest.approx(
        {
            "time/step_s": 2.0,
            "time/data_wait_s": 0.5,
            "time/data_wait_share": 0.25,
            "time/tokens_per_s": 30.0,
            "time/padded_tokens_per_s": 50.0,
            "time/source_tokens_per_s": 25.0,
            "time/padded_source_tokens_per_s": 40.0,
            "time/mfu": 1000 * 60 / 2 / 240_000,
            "time/elapsed_s": 8.0,
        }
    )


def test_a_window_holds_only_what_came_after_the_last():
    clock = Clock()
    rates = make(clock)
    train(rates, clock, 3, work=9.5)
    rates.take()
    train(rates, clock, 2)
    assert rates.take()["time/step_s"] == 2.0


def test_pauses_count_in_no_rate_but_in_the_time_passed():
    clock = Clock()
    rates = make(clock, elapsed=100.0)
    train(rates, clock, 2)
    with rates.paused():
        clock.now += 60
    train(rates, clock, 2)
    fields = rates.take()
    assert fields["time/step_s"] == 2.0
    assert fields["time/elapsed_s"] == 100 + 8 + 60


def test_a_window_without_steps_has_no_rates():
    with pytest.raises(ValueError, match="No step"):
        make(Clock()).take()
