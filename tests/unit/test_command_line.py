"""`python -m l2keras`: what it prints, how it fails, and what it does without."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from l2keras.__main__ import main

CONVERT = ["convert", "1e-4", "--from", "torch.SGD", "--to", "keras.L2"]


def test_it_loads_no_keras_no_backend_and_no_numpy() -> None:
    """`python -m l2keras convert` answers from the standard library alone."""
    command = [sys.executable, "-X", "importtime", "-m", "l2keras", *CONVERT]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout.splitlines()[0] == "5e-05"
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert "l2keras" in loaded
    assert not loaded & {"keras", "numpy", "tensorflow", "jax", "torch", "optax"}


def test_a_reader_that_has_enough_is_no_error() -> None:
    """Nothing on stderr, and 0, when the pipe is closed before anything is written."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "l2keras", "conventions"]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (result.returncode, result.stderr) == (0, "")


def test_an_exact_result_is_a_line_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """The value stands alone on the first line; then exactness and why."""
    assert main(CONVERT) == 0
    value, *why = capsys.readouterr().out.splitlines()
    assert value == "5e-05"
    assert why[0].startswith("exact: torch.SGD has lam = c, keras.L2 has lam = 2*c.")


def test_an_inexact_result_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """The number is all of stdout, as `$(...)` takes it; stderr says that it is not exact."""
    assert main([*CONVERT[:-1], "keras.weight_decay"]) == 0
    out, err = capsys.readouterr()
    assert out == "0.0001\n"
    assert err.startswith("warning: not exact: ")
    assert 'Pass --optimizer="sgd" if' in " ".join(err.split())


def test_every_option_reaches_convert(capsys: pytest.CaptureFixture[str]) -> None:
    """Rate, optimizer and the three counts."""
    commands = {
        "1 --from tfa.SGDW --to half_l2 --learning-rate 4 --optimizer sgd": "0.25",
        "2 --from sklearn.Ridge --to half_l2 --num-samples 1e2": "0.04",
        "1 --from sklearn.MLPClassifier --to half_l2 --batch-size 4": "0.25",
        "1 --from keras_adamw --to torch.AdamW --learning-rate 1 --num-steps 16": "0.25",
    }
    for command, expected in commands.items():
        assert main(["convert", *command.split()]) == 0
        value, why, *_ = capsys.readouterr().out.splitlines()
        assert (value, why[:7]) == (expected, "exact: ")


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("torch.Adam", "keras.weight_decay", "rescales the coupled lam*W along with the gradient"),
        ("tfa.AdamW", "keras.weight_decay", "no `--learning-rate`"),
        ("torch.SDG", "half_l2", "`--from` must be the name of a system. Received: --from='torch"),
        ("torch.SDG", "half_l2", 'Did you mean "torch.SGD"?'),
        ("torch.SGD", "zzz", "Received: --to='zzz'. `python -m l2keras conventions` lists them."),
    ],
)
def test_what_is_undefined_or_wrong_ends_with_2(
    source: str, target: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stderr, nothing on stdout, no traceback."""
    assert main(["convert", "1e-4", "--from", source, "--to", target]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("value", ["-1", "-1e-4", "-.5E+3", "-inf"])
def test_a_negative_number_is_no_option(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """However it is written, it is convert that refuses it, as the value and as a rate."""
    ends = ["--from", "tfa.SGDW", "--to", "half_l2"]
    assert main(["convert", value, *ends]) == 2
    assert f"Received: value={float(value)!r}." in capsys.readouterr().err
    assert main(["convert", "1", *ends, "--learning-rate", value]) == 2
    assert f"Received: --learning-rate={float(value)!r}." in capsys.readouterr().err


def test_conventions_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A head, a row for each system, and what the letters mean."""
    assert main(["conventions"]) == 0
    out = capsys.readouterr().out
    assert out.split()[:2] == ["name", "lam"]
    assert "torch/optim/sgd.py" in out
    assert "c is the number that the system is given" in out


@pytest.mark.parametrize("arguments", [["--help"], ["convert", "--help"]])
def test_help_helps(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It names the commands, the options and examples, and ends with 0."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for word in ["convert", "--from", "--to", "--learning-rate"]:
        assert word in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: command. Received: no arguments."),
        (["conver"], "invalid choice: 'conver' (choose from "),
        (CONVERT[:-2], "required: --to. Received: 'convert 1e-4 --from torch.SGD'."),
        (["convert", "abc", *CONVERT[2:]], "argument value: 'abc' is no number. Received: "),
        ([*CONVERT, "--num-samples", "1\n0"], r"argument --num-samples: '1\n0' is no number."),
        ([*CONVERT, "--lr", "0.1"], "Did you mean --learning-rate?"),
        ([*CONVERT, "--source", "x"], "Did you mean --from?"),
        ([*CONVERT, "x" * 10_000], "`python -m l2keras convert --help` lists the arguments."),
    ],
)
def test_wrong_words_are_answered_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What argparse objects to, what came, and what to do, without a page of usage."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert " Received: " in err
    assert err.count("\n") == 1
