"""What is said of a study, on numbers of which the answer is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from l2keras_experiments.reports import findings, study
from l2keras_experiments.reports.study import Setting, Study
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
        "HalfL2 has the highest mean validation accuracy: 0.80 ± 0.25 (95 % interval, 3 seeds) "
        "at lambda = 0.1, learning rate 0.5."
    )
    assert said[1] == (
        "WeightDecay decoupled reaches 0.70 ± 0.22 at lambda = 0.1, learning rate 0.5. "
        "HalfL2 is 0.100 ± 0.025 better than WeightDecay decoupled over 3 seeds that both have: "
        "significant difference."
    )


def test_the_test_value_of_what_validation_selected() -> None:
    """The best is that of validation, also where another did better on the test examples."""
    values = {0.1: (0.9, 0.7), 0.2: (0.8, 0.75)}
    records = [
        replace(record, metrics={**record.metrics, "test_accuracy": values[trial.lam][1]})
        for trial in (Trial(lam=lam, accuracy=val) for lam, (val, _) in values.items())
        for record in [trial.record()]
    ]
    found = study.build(records)
    [setting] = found.settings
    said = findings.sentences(setting)
    assert said[1] == "Test accuracy at each method's selected lambda: HalfL2 0.7."
    assert "0.9, test accuracy 0.7, at lambda = 0.1" in findings.headlines(found)[0]
    column = findings.columns(setting).index("test accuracy")
    assert [row[column] for _, row in findings.leaderboard(setting)] == ["0.7", "0.75"]
    assert findings.summary_metrics(found)["HalfL2.test_accuracy"] == 0.7


def test_without_test_examples_nothing_is_said_of_them() -> None:
    """The column stays, empty."""
    setting = setting_of(*CLEAR)
    assert not any("est accuracy" in line for line in findings.sentences(setting))
    column = findings.columns(setting).index("test accuracy")
    assert {row[column] for _, row in findings.leaderboard(setting)} == {"-"}


def test_a_difference_within_noise() -> None:
    """The better mean alone is not called better."""
    trials = [
        *seeds(Trial("half_l2"), [0.7, 0.8, 0.9]),
        *seeds(Trial("decoupled"), [0.8, 0.7, 0.88]),
    ]
    assert findings.sentences(setting_of(*trials))[1].endswith(
        "HalfL2 is 0.01 ± 0.25 better than WeightDecay decoupled over 3 seeds that both have: "
        "no significant difference."
    )


def test_one_seed_says_nothing_of_noise() -> None:
    """A single seed has no interval, and that is said of the mean and of the difference."""
    trials = [Trial("half_l2", accuracy=0.75), Trial("decoupled", accuracy=0.5)]
    said = findings.sentences(setting_of(*trials))
    assert "0.75 (one seed: no interval)" in said[0]
    assert (
        "0.25 better than WeightDecay decoupled on the one seed that both have: too few seeds."
        in said[1]
    )


def test_methods_that_share_no_seed_are_not_compared() -> None:
    """Without a common seed there is no difference to speak of."""
    trials = [Trial("half_l2", seed=0), Trial("decoupled", seed=1, accuracy=0.1)]
    assert findings.sentences(setting_of(*trials))[1].endswith(
        "HalfL2 and WeightDecay decoupled share no seed, so the two cannot be compared."
    )


def test_equal_runs_are_called_equal() -> None:
    """Methods that give the same numbers are equal, not within noise."""
    trials = [
        *seeds(Trial("half_l2"), [0.7, 0.8, 0.9]),
        *seeds(Trial("decoupled"), [0.7, 0.8, 0.9]),
    ]
    said = findings.sentences(setting_of(*trials))
    assert said[0] == (
        "No difference: each combination of method, lambda and learning rate has validation "
        "accuracy 0.8."
    )
    assert said[1].endswith("WeightDecay decoupled and HalfL2 are equal over 3 seeds.")
    assert said[2].startswith("WeightDecay decoupled and HalfL2 have equal validation accuracy")


def test_a_lower_loss_is_better() -> None:
    """For a regression the words turn around and the numbers stay positive."""
    trials = [
        *seeds(Trial("half_l2", accuracy=None), [1.0, 2.0, 3.0]),
        *seeds(Trial("decoupled", accuracy=None), [1.5, 2.51, 3.49]),
    ]
    setting = setting_of(*trials)
    said = findings.sentences(setting)
    assert said[0].startswith("HalfL2 has the lowest mean validation data loss: 2.0 ± 2.5 ")
    assert "HalfL2 is 0.500 ± 0.025 better than WeightDecay decoupled over 3 seeds" in said[1]
    [_, (_, other)] = findings.leaderboard(setting)
    columns = findings.columns(setting)
    assert other[columns.index("difference to the best")] == "0.500 ± 0.025"
    assert other[-1] == "worse"
    assert columns.count("validation data loss") == 1  # it is the metric


def test_lambdas_that_are_as_good_and_grids_that_end() -> None:
    """The lambdas within noise of the best are named, and a best at the end of the grid."""
    trials = [
        *seeds(Trial(lam=0.1), [0.50, 0.51, 0.52]),
        *seeds(Trial(lam=0.2), [0.70, 0.80, 0.70]),
        *seeds(Trial(lam=0.4), [0.75, 0.70, 0.80]),
    ]
    said = findings.sentences(setting_of(*trials))
    assert "HalfL2: the best lambda is 0.4; no significant difference to 0.2." in said
    assert "the smallest or the largest that was tried for HalfL2 (lambda = 0.4)." in said[-1]


def test_a_best_inside_the_grid_is_not_warned_about() -> None:
    """No word of extending the grid where its middle is best."""
    trials = [Trial(lam=lam, accuracy=score) for lam, score in ((0.1, 0.5), (0.2, 0.9), (0.4, 0.6))]
    assert not any(
        "largest that was tried" in line for line in findings.sentences(setting_of(*trials))
    )


def test_everything_diverged() -> None:
    """A setting without a finite run says so."""
    assert findings.sentences(setting_of(Trial(accuracy=float("nan")))) == ["Every run diverged."]


def test_several_settings_have_a_headline_each() -> None:
    """Each setting's best method, and which do not differ from it significantly."""
    noise = [{"data.label_noise": noise} for noise in ("0.0", "0.4")]
    trials = [Trial(t.method, t.lam, t.learning_rate, t.seed, t.accuracy, others=other)
              for other in noise for t in CLEAR]  # fmt: skip
    said = findings.headlines(study_of(*trials))
    assert [line.partition(":")[0] for line in said] == ["label_noise=0.0", "label_noise=0.4"]
    assert said[0].endswith("The difference to every other method is significant.")


def test_the_leaderboard_keeps_the_best_of_each_method() -> None:
    """Cut short, it still has every method's best cell."""
    trials = [
        *(Trial("half_l2", lam, accuracy=0.9) for lam in (0.1, 0.2, 0.3)),
        Trial("decoupled", accuracy=0.1),
        Trial("none", accuracy=0.2),
    ]
    rows = [row for _, row in findings.leaderboard(setting_of(*trials), limit=1)]
    assert [row[0] for row in rows] == ["HalfL2", "none", "WeightDecay decoupled"]
    assert [row[-1] for row in rows] == ["best", "too few seeds", "too few seeds"]


def test_the_parents_metrics() -> None:
    """Mean, half width and lambda of each method's best, under names that MLflow takes."""
    found = findings.summary_metrics(study_of(*CLEAR))
    assert found["HalfL2.best_val_accuracy"] == pytest.approx(0.8)
    assert found["HalfL2.best_lambda"] == 0.1
    half_width = 4.302653 * 0.09 / 3**0.5
    assert found["WeightDecay decoupled.ci95_half_width"] == pytest.approx(half_width, rel=1e-6)
    split = [Trial(others={"training.batch_size": size}) for size in ("16", "32")]
    assert "batch_size 16/HalfL2.best_lambda" in findings.summary_metrics(study_of(*split))


def test_the_best_lambda_by_learning_rate() -> None:
    """At each learning rate the best lambda as written, with those that do not differ from it."""
    trials = [
        *seeds(Trial("coupled", 0.1, 0.5), [0.80, 0.81, 0.82]),
        *seeds(Trial("coupled", 0.2, 0.5), [0.70, 0.72, 0.71]),
        *seeds(Trial("coupled", 0.1, 0.05), [0.60, 0.50, 0.61]),
        *seeds(Trial("coupled", 0.2, 0.05), [0.55, 0.60, 0.57]),
    ]
    assert (
        "WeightDecay coupled: the best lambda, as written, is 0.2 at learning rate 0.05 "
        "(no significant difference to 0.1); 0.1 at learning rate 0.5."
        in findings.sentences(setting_of(*trials))
    )


def by_key(key: str) -> Study:
    return study_of(
        *seeds(Trial(others={key: "16"}), [0.70, 0.80, 0.90]),
        *seeds(Trial(others={key: "64"}), [0.61, 0.70, 0.79]),
    )


def test_settings_on_the_same_data_are_compared() -> None:
    """The best of each setting against the best of all, seed by seed; not across data."""
    assert findings.headlines(by_key("training.batch_size"))[2:] == [
        "batch_size=16 at its best is 0.100 ± 0.025 better than batch_size=64 at its best over 3 "
        "seeds that both have: significant difference."
    ]
    assert len(findings.headlines(by_key("data.num_train"))) == 2


def test_of_equal_accuracies_the_lower_loss_decides() -> None:
    """lambda 0.2 of 0.1, 0.2, 0.3 has the lowest loss; without it, nothing can be selected."""
    losses = {0.1: 0.5, 0.2: 0.3, 0.3: 0.4}
    setting = setting_of(*(Trial(lam=lam, loss=loss) for lam, loss in losses.items()))
    [leader] = setting.leaders
    assert leader.lam == 0.2
    said = findings.sentences(setting)
    assert said[0] == (
        "Each combination has the same validation accuracy. The validation data loss decides: the "
        "lowest is 0.3 of HalfL2 at lambda = 0.2, learning rate 0.5."
    )
    assert [row[-1] for _, row in findings.leaderboard(setting)] == ["best", "equal", "equal"]

    flat = setting_of(*(Trial(lam=lam) for lam in losses))
    assert findings.sentences(flat) == [
        "No difference: each combination of method, lambda and learning rate has validation "
        "accuracy 0.9."
    ]
    assert findings.headlines(study_of(Trial(), Trial(lam=0.2)))[0].endswith("accuracy 0.9.")
    assert [row[-1] for _, row in findings.leaderboard(flat)] == ["equal"] * 3


def test_nothing_is_0_worse() -> None:
    """One seed with equal values, and three whose differences cancel: 0.1, 0.0, -0.1."""
    one = [Trial("half_l2", loss=0.1), Trial("decoupled", loss=0.2)]
    [_, said, *_] = findings.sentences(setting_of(*one))
    assert said.endswith("HalfL2 and WeightDecay decoupled are equal on the one seed.")
    three = [
        *seeds(Trial("half_l2", loss=0.1), [0.7, 0.8, 0.9]),
        *seeds(Trial("decoupled", loss=0.2), [0.8, 0.8, 0.8]),
    ]
    [_, said, *_] = findings.sentences(setting_of(*three))
    assert said.endswith(
        "HalfL2 and WeightDecay decoupled have the same mean over 3 seeds that both have: "
        "no significant difference."
    )


def test_different_losses_are_ranked_by_what_both_measure_only() -> None:
    """mae of 0.1 is no better than mse of 0.2; by an accuracy or a selection they are."""
    losses = {"mse": 0.2, "mae": 0.1}
    trials = [Trial(accuracy=None, loss=value, others={"training.loss": name})
              for name, value in losses.items()]  # fmt: skip
    *_, said = findings.headlines(study_of(*trials))
    assert said.startswith("Runs that minimize different losses are not ranked")
    others = [replace(t, loss=t.loss / 2, others={**t.others, "model.width": "9"}) for t in trials]
    *_, mae, mse, said = findings.headlines(study_of(*trials, *others))  # with one loss they are
    assert mae.startswith("width=9, loss=mae at its best is 0.05 better than loss=mae at its")
    assert mse.startswith("width=9, loss=mse at its best is 0.1 better than loss=mse at its")
    assert said.startswith("Runs that minimize different losses are not ranked")
    *_, said = findings.headlines(study_of(*(replace(t, accuracy=0.9) for t in trials[:1]),
                                           replace(trials[1], accuracy=0.8)))  # fmt: skip
    assert said.startswith("loss=mse at its best is 0.1 better than loss=mae")


def test_the_selection_of_the_runs_ranks_them() -> None:
    """By an AUC of 0.6 and 0.7 the second lambda leads; by a max_error the first."""

    def selected(metric: str, mode: str) -> Setting:
        keys = {"training.selection": metric, "selection_mode": mode}
        values = {0.1: 0.6, 0.2: 0.7}
        records = [Trial(lam=lam, others=keys).record() for lam in values]
        return study.build(
            replace(record, metrics={**record.metrics, metric: value, "test_auc": 0.5})
            for record, value in zip(records, values.values(), strict=True)
        ).settings[0]  # fmt: skip

    setting = selected("val_auc", "max")
    assert (setting.metric, setting.higher_is_better) == ("val_auc", True)
    assert [cell.lam for cell in setting.ranked(setting.cells)] == [0.2, 0.1]
    said = findings.sentences(setting)
    assert said[0].startswith("HalfL2 has the highest mean validation auc: 0.7 ")
    assert said[1] == "Test auc at each method's selected lambda: HalfL2 0.5."
    assert "validation accuracy" in findings.columns(setting)
    setting = selected("val_max_error", "min")
    assert [cell.lam for cell in setting.ranked(setting.cells)] == [0.1, 0.2]
    assert findings.sentences(setting)[0].startswith("HalfL2 has the lowest mean validation max er")


def test_trials_of_a_search_are_ranked_as_the_search_does() -> None:
    """By the loss, whatever the accuracy, so that the page and the preset name one lambda."""
    losses = {0.1: (0.9, 0.5), 0.2: (0.8, 0.3)}
    trials = [Trial(lam=lam, accuracy=accuracy, loss=loss, tags={"trial": str(number)})
              for number, (lam, (accuracy, loss)) in enumerate(losses.items())]  # fmt: skip
    [leader] = setting_of(*trials).leaders
    assert leader.lam == 0.2
    assert "validation accuracy" in findings.columns(setting_of(*trials))
