"""What is said of a study, on numbers of which the answer is known."""

from __future__ import annotations

import pytest

from experiments import findings, study
from experiments.study import Setting, Study
from tests.support.synthetic import Trial, seeds


def setting_of(*trials: Trial) -> Setting:
    [setting] = study_of(*trials).settings
    return setting


def study_of(*trials: Trial) -> Study:
    return study.build(trial.record() for trial in trials)


CLEAR = [
    *seeds(Trial("half_l2", 0.1), [0.70, 0.80, 0.90]),
    *seeds(Trial("decoupled", 0.1), [0.61, 0.70, 0.79]),
]


def test_a_difference_that_is_clear() -> None:
    """0.09, 0.10, 0.11 over three seeds is more than noise, though the means overlap widely."""
    said = findings.sentences(setting_of(*CLEAR))
    # t(0.975, 2) / sqrt(3) is 2.484: 2.484 * 0.1 = 0.25, and 2.484 * 0.01 = 0.025
    assert said[0] == (
        "half_l2 has the highest mean val_accuracy: 0.80 ± 0.25 (95 % interval, 3 seeds), "
        "at lambda = 0.1, learning rate 0.5."
    )
    assert said[1] == (
        "decoupled comes to 0.70 ± 0.22, at lambda = 0.1, learning rate 0.5; "
        "half_l2 is 0.100 ± 0.025 better over 3 paired seeds: more than noise."
    )


def test_a_difference_within_noise() -> None:
    """The better mean alone is not called better."""
    trials = [
        *seeds(Trial("half_l2"), [0.7, 0.8, 0.9]),
        *seeds(Trial("decoupled"), [0.8, 0.7, 0.88]),
    ]
    assert findings.sentences(setting_of(*trials))[1].endswith(
        "half_l2 is 0.01 ± 0.25 better over 3 paired seeds: within noise."
    )


def test_one_seed_says_nothing_of_noise() -> None:
    """A single seed has no interval, and that is said of the mean and of the difference."""
    trials = [Trial("half_l2", accuracy=0.75), Trial("decoupled", accuracy=0.5)]
    said = findings.sentences(setting_of(*trials))
    assert "0.75 (one seed: no interval)" in said[0]
    assert "0.25 better with the one seed they share: that says nothing of noise" in said[1]


def test_methods_that_share_no_seed_are_not_compared() -> None:
    """Without a common seed there is no difference to speak of."""
    trials = [Trial("half_l2", seed=0), Trial("decoupled", seed=1, accuracy=0.1)]
    assert findings.sentences(setting_of(*trials))[1].endswith(
        "not comparable: the two share no seed."
    )


def test_equal_runs_are_called_equal() -> None:
    """Methods that give the same numbers are equal, not within noise."""
    trials = [
        *seeds(Trial("half_l2"), [0.7, 0.8, 0.9]),
        *seeds(Trial("decoupled"), [0.7, 0.8, 0.9]),
    ]
    assert "equal to it over 3 paired seeds" in findings.sentences(setting_of(*trials))[1]


def test_a_lower_loss_is_better() -> None:
    """For a regression the words turn around and the numbers stay positive."""
    trials = [
        *seeds(Trial("half_l2", accuracy=None), [1.0, 2.0, 3.0]),
        *seeds(Trial("decoupled", accuracy=None), [1.5, 2.51, 3.49]),
    ]
    setting = setting_of(*trials)
    said = findings.sentences(setting)
    assert said[0].startswith("half_l2 has the lowest mean val_data_loss: 2.0 ± 2.5 ")
    assert "half_l2 is 0.500 ± 0.025 better over 3 paired seeds: more than noise" in said[1]
    [_, (_, behind)] = findings.leaderboard(setting)
    columns = findings.columns(setting)
    assert behind[columns.index("behind the best")] == "0.500 ± 0.025"
    assert behind[-1] == "behind"
    assert "val data loss" not in columns  # it is the metric


def test_lambdas_that_are_as_good_and_grids_that_end() -> None:
    """The lambdas within noise of the best are named, and a best at the end of the grid."""
    trials = [
        *seeds(Trial(lam=0.1), [0.50, 0.51, 0.52]),
        *seeds(Trial(lam=0.2), [0.70, 0.80, 0.70]),
        *seeds(Trial(lam=0.4), [0.75, 0.70, 0.80]),
    ]
    said = findings.sentences(setting_of(*trials))
    assert "half_l2: its best lambda, 0.4, is not told apart from 0.2: within noise." in said
    assert said[-1].endswith("extended: half_l2 (lambda = 0.4).")


def test_a_best_inside_the_grid_is_not_warned_about() -> None:
    """No word of extending the grid where its middle is best."""
    trials = [Trial(lam=lam, accuracy=score) for lam, score in ((0.1, 0.5), (0.2, 0.9), (0.4, 0.6))]
    assert not any("end of the grid" in line for line in findings.sentences(setting_of(*trials)))


def test_everything_diverged() -> None:
    """A setting without a finite run says so."""
    assert findings.sentences(setting_of(Trial(accuracy=float("nan")))) == ["Every run diverged."]


def test_several_settings_have_a_headline_each() -> None:
    """Each setting's best method, and which are not told apart from it."""
    noise = [{"data.label_noise": noise} for noise in ("0.0", "0.4")]
    trials = [Trial(t.method, t.lam, t.learning_rate, t.seed, t.accuracy, others=other)
              for other in noise for t in CLEAR]  # fmt: skip
    said = findings.headlines(study_of(*trials))
    assert [line.partition(":")[0] for line in said] == ["label_noise=0.0", "label_noise=0.4"]
    assert said[0].endswith("better than every other by more than noise.")


def test_the_leaderboard_keeps_the_best_of_each_method() -> None:
    """Cut short, it still has every method's best cell."""
    trials = [
        *(Trial("half_l2", lam, accuracy=0.9) for lam in (0.1, 0.2, 0.3)),
        Trial("decoupled", accuracy=0.1),
        Trial("none", accuracy=0.2),
    ]
    rows = [row for _, row in findings.leaderboard(setting_of(*trials), limit=1)]
    assert [row[0] for row in rows] == ["half_l2", "none", "decoupled"]
    assert [row[-1] for row in rows] == ["the best", "too few seeds", "too few seeds"]


def test_the_parents_metrics() -> None:
    """Mean, half width and lambda of each method's best, under names that MLflow takes."""
    found = findings.summary_metrics(study_of(*CLEAR))
    assert found["half_l2.best_val_accuracy"] == pytest.approx(0.8)
    assert found["half_l2.best_lambda"] == 0.1
    assert found["decoupled.ci95_half_width"] == pytest.approx(4.302653 * 0.09 / 3**0.5, rel=1e-6)
    split = [Trial(others={"training.batch_size": size}) for size in ("16", "32")]
    assert "batch_size 16/half_l2.best_lambda" in findings.summary_metrics(study_of(*split))


def test_the_best_lambda_by_learning_rate() -> None:
    """At each learning rate the best lambda as written, with those that are not told from it."""
    trials = [
        *seeds(Trial("coupled", 0.1, 0.5), [0.80, 0.81, 0.82]),
        *seeds(Trial("coupled", 0.2, 0.5), [0.70, 0.72, 0.71]),
        *seeds(Trial("coupled", 0.1, 0.05), [0.60, 0.50, 0.61]),
        *seeds(Trial("coupled", 0.2, 0.05), [0.55, 0.60, 0.57]),
    ]
    assert (
        "coupled: the best lambda, as written, by learning rate: at 0.05 it is 0.2 (or 0.1); "
        "at 0.5 it is 0.1." in findings.sentences(setting_of(*trials))
    )


def by_key(key: str) -> Study:
    return study_of(
        *seeds(Trial(others={key: "16"}), [0.70, 0.80, 0.90]),
        *seeds(Trial(others={key: "64"}), [0.61, 0.70, 0.79]),
    )


def test_settings_on_the_same_data_are_compared() -> None:
    """The best of each setting against the best of all, seed by seed; not across data."""
    assert findings.headlines(by_key("training.batch_size"))[2:] == [
        "batch_size=16 against batch_size=64, each at its best: 0.100 ± 0.025 better over 3 paired "
        "seeds: more than noise."
    ]
    assert len(findings.headlines(by_key("data.num_train"))) == 2
