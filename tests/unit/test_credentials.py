"""Passwords and tokens in addresses, arguments and texts."""

from __future__ import annotations

import re
from urllib.parse import quote, quote_plus

import pytest
from sqlalchemy import URL

from l2keras_experiments.config import credentials
from l2keras_experiments.config.credentials import (
    masked,
    masked_address,
    masked_words,
    revealed,
    sealed,
)
from l2keras_experiments.config.schema import ConfigError


@pytest.fixture(autouse=True)
def nothing_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("L2KERAS_SEALED", "{}")


ADDRESSES = {
    "http://bob:hunter2@127.0.0.1:9": "http://***@127.0.0.1:9",
    "http://hunter2@host:5000/x": "http://***@host:5000/x",
    "https://hunter2:@host": "https://***@host",
    "https://host:5000/#/experiments/1": "https://host:5000/#/experiments/1",
    "http://host/?token=hunter2#x": "http://host/?token=***",
    "databricks://bob:hunter2@host": "databricks://***@host",
    "postgresql://user@host/database": "postgresql://user@host/database",
    "postgresql+psycopg2://u:hunter2@h:5/d?sslmode=require":
        "postgresql+psycopg2://u:***@h:5/d?sslmode=require",
    "postgresql://u:hun@ter/2@h:5/d": "postgresql://u:***@h:5/d",
    "postgresql://u:hun?x=ter2@h/d": "postgresql://u:***@h/d",
    "mysql+pymysql://u:hunter2%40@h/d?charset=utf8": "mysql+pymysql://u:***@h/d?charset=utf8",
    "postgresql://h/d?user=u&password=hunter2&sslpassword=hunter2&sslmode=a":
        "postgresql://h/d?user=u&password=***&sslpassword=***&sslmode=a",
    "postgresql://h/d?password=hun&ter2": "postgresql://h/d?password=***",
    "postgresql://h/d?password=hun@ter2&x=1": "postgresql://***?password=***&x=1",
    "postgresql:///d?host=/tmp&pass%77ord=hunter2": "postgresql:///d?host=/tmp&password=***",
    "mssql+pyodbc:///?odbc_connect=UID%3Du%3BPWD%3Dhunter2": "mssql+pyodbc:///?odbc_connect=***",
    "mssql+pyodbc:///?x=1&odbc_connect=PWD={hun;ter2&hunter2=1}":
        "mssql+pyodbc:///?x=1&odbc_connect=***",
    "jdbc:sqlserver://host:1;user=sa;password=hunter2": "jdbc:sqlserver://host:1;user=sa;password=***",
    "bob:hunter2@host:5000": "***@host:5000",
    "sqlite+pysqlcipher://:hunter2@/x.db": "sqlite+pysqlcipher://***@/x.db",
    "postgresql://bob:hunter2": "postgresql://bob:***",
    "postgresql://bob%3Ahunter2@h": "postgresql://bob:***@h",
    "postgresql:///bob:hunter2@h/d": "postgresql://***@h/d",
    "postgresql://h1:1,h2:2/d": "postgresql://h1:1,h2:2/d",
    "postgresql://h/d?options=-cpassword%3Dhunter2&x=1": "postgresql://h/d?options=***&x=1",
    'mysql://h/d?ssl={"key":"hunter2"}': "mysql://h/d?ssl=***",
    "http://h/?jwt=hunter2&pw=hunter2&code=hunter2": "http://h/?jwt=***&pw=***&code=***",
    "http://h/#/experiments/1/runs?viewStateShareKey=9f": "http://h/#/experiments/1/runs?viewStateShareKey=9f",
    "http://h/?session=hunter2&t=S3cretPw&lang=en-GB": "http://h/?session=***&t=***&lang=en-GB",
    "http://h/?v=9f86d081884c7d65&page=12&charset=utf8mb4":
        "http://h/?v=***&page=12&charset=utf8mb4",
    "mssql+pyodbc://h/d?driver=ODBC+Driver+17+for+SQL+Server&ssl_ca=/etc/Root1.pem":
        "mssql+pyodbc://h/d?driver=ODBC+Driver+17+for+SQL+Server&ssl_ca=/etc/Root1.pem",
    "//bob:hunter2@h/d": "//***@h/d",
    "//server/share/x.db": "//server/share/x.db",
    "postgresql+psycopg2://hunter2:@h/d": "postgresql+psycopg2://***@h/d",
    "sqlite+pysqlcipher:///:hunter2@/x.db": "sqlite+pysqlcipher:///***@/x.db",
    "sqlite:////a@b/c:d@e/mlflow.db": "sqlite:////a@b/c:d@e/mlflow.db",
    "file:///a/b@c": "file:///a/b@c",
    "/a/b@c": "/a/b@c",
    "databricks": "databricks",
}  # fmt: skip


def test_an_address_shows_what_is_no_secret() -> None:
    """The masked form of each kind; masked once more it is the same."""
    for address, expected in ADDRESSES.items():
        assert masked_address(address) == expected
        assert masked_address(expected) == expected
        assert masked(expected) == expected


PASSWORDS = [
    "hunter2", "p@ss1word", "p/a1s/s2w", "p%40q1w2", "a1b:b2c:c3d", "xx1?yy2=zz3", "#frag1#",
    "comma1,comma2", "100%sure1", "[v6v6]", "{brace1}", "p1p@h/dbdb", "a1a@b2b:1/c3c@d4d", "@@@@@",
]  # fmt: skip
TEMPLATES = [
    "postgresql+psycopg2://u:{}@h:5432/d", "http://u:{}@h:5000/x", "mysql://:{}@h/d",
    "https://{}@h", "postgresql://h/d?password={}&x=1",
]  # fmt: skip


def test_no_part_of_a_password_is_left() -> None:
    """Whatever characters it has, as typed and encoded, in the address and in a text around it."""
    for password in PASSWORDS:
        for written in {password, quote(password, safe=""), quote_plus(password)}:
            for template in TEMPLATES:
                for mask in (masked_address, lambda text: masked(f"refused: '{text}' (x)")):
                    found = mask(template.format(written))
                    parts = [part for part in re.split(r"\W+", written) if len(part) > 2]
                    assert not [part for part in parts if part in found], (written, found)
                    assert "***" in found
        url = URL.create("postgresql", "u", password, "h", database="d")
        assert masked_address(url.render_as_string(hide_password=False)) == repr(url)


def test_a_text_has_no_secret() -> None:
    """Addresses, assignments and headers in what libraries print; the rest stays."""
    text = (
        "at 'http://bob:hunter2@h:9/x', PWD={hunter2}; MLFLOW_TRACKING_PASSWORD=hunter2 "
        'bob:hunter2@host Authorization: Basic aHVudGVyMg== password=\'hunter2\' "token": "hunter2"'
    )
    assert masked(text) == (
        "at 'http://***@h:9/x', PWD=***; MLFLOW_TRACKING_PASSWORD=*** "
        'bob:***@host Authorization: Basic *** password=*** "token": ***'
    )
    assert masked("refused: http://bob:a'hunter2@h, <http://bob:<hunter2>@h>") == (
        "refused: http://***@h, <http://***@h>"
    )
    for plain in ("data=digits_tokens lam=[0.1,1.0] 12:30:11", 'File "/a@b/c.py", line 3, in f'):
        assert masked(plain) == plain


def test_known_secrets_are_masked_wherever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """As written and decoded, but not a password that is also the name of the user."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok3n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://mlflow:hunt%40er2@h/d")
    assert (
        masked("no host hunt@er2, nor hunt%40er2, tok3n, mlflow")
        == "no host ***, nor ***, ***, mlflow"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://mlflow:mlflow@h/d")
    assert masked("the user mlflow") == "the user mlflow"


WORDS = {
    "tracking.uri=http://bob:hun ter2@h": ("tracking.uri='http://***@h'", "http://bob:hun ter2@h"),
    r"tracking.uri=http://bob:hun\,ter2@h": ("tracking.uri='http://***@h'", "http://bob:hun,ter2@h"),
    r"tracking.uri='http://bob:hun\'ter2@h'": ("tracking.uri='http://***@h'", "http://bob:hun'ter2@h"),
    "tune.storage=postgresql://bob:hun{ter2@h/d":
        ("tune.storage='postgresql://bob:***@h/d'", "postgresql://bob:hun{ter2@h/d"),
}  # fmt: skip


def test_an_override_is_sealed_and_revealed() -> None:
    """Hydra reads the masked form; the address is as the user meant it, quotes and all."""
    for word, (expected, address) in WORDS.items():
        found = credentials.sealed_override(word)
        assert found == expected
        assert credentials.sealed_override(found) == found
        assert revealed(found.partition("=")[2].strip("'")) == address
    for word in ("seed=0,1", "tracking.uri=http://host:5000", "tune.storage=sqlite:///a@b.db"):
        assert credentials.sealed_override(word) == word
    both = credentials.sealed_override("tracking.uri=http://a:hunter2@h,http://b:hunter3@h")
    assert both == "tracking.uri=http://***@h,http://***@h"
    quoted = credentials.sealed_override(
        """tracking.uri="http://a:h'unter2@h","http://b:hunter3@h\""""
    )
    assert quoted == 'tracking.uri="http://***@h","http://***@h"'


def test_only_the_addresses_of_stores_are_sealed() -> None:
    """Any other value stays as it is; a password in it is refused, as no mask can stand for it."""
    for word in ("tracking.study=me@lab", "tracking.study='wd@0.1'", "hydra.run.dir=out@1/x"):
        assert credentials.sealed_override(word) == word
    with pytest.raises(ConfigError, match=r"`\+data\.path` must hold no password.*s3://\*\*\*@b"):
        credentials.sealed_override("+data.path=s3://user:hunter2@b")


def test_a_secret_variable_of_jobs_is_set_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password for the environment of jobs is in none of Hydra's files."""
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "old")
    word = "+hydra.job.env_set.MLFLOW_TRACKING_PASSWORD=hunter2"
    found = credentials.sealed_override(word)
    assert found == "+hydra.job.env_set.MLFLOW_TRACKING_PASSWORD='***'"
    assert credentials.sealed_override(found) == found
    assert credentials._known() == ("hunter2",)


SPELLINGS = [
    "+hydra.job.env_set={DB_TOKEN:hunter2}",
    "++hydra.job.env_set={A:1,DB_TOKEN:'hunter2'}",
    "+hydra.job={env_set:{DB_TOKEN:str(hunter2)}}",
    "hydra={job:{env_set:{DB_TOKEN:12345678}}}",
    "+hydra.job.env_set.MY-TOKEN=hunter2",
    "+hydra.job.env_set={OPTIONS:'--password=hunter2'}",
    "+hydra.job.env_set={STORE:'http://bob:hunter2@h'}",
    "+hydra.job.env_set.DB_TOKEN=${oc.env:NOPE,hunter2}",
    "+hydra.job={env_set:{'DB_TOKEN':hunter2}}",
    "+hydra.job=choice({env_set:{DB_TOKEN:hunter2}},1)",
    "~hydra.job.env_set.DB_TOKEN=hunter2",
    "hydra.sweeper.params={hydra.job.env_set.DB_TOKEN:[hunter2]}",
    "hydra.sweeper.params={+hydra.job.env_set.DB_TOKEN:'hunter2,hunter3'}",
    "hydra.sweeper.params={hydra.job:'{env_set:{DB_TOKEN:hunter2}}'}",
    "hydra.sweeper.grids=[{+hydra.job.env_set:{DB_TOKEN:hunter2}}]",
    "hydra.sweeper.params={hydra.job.env_set:[{DB_TOKEN:hunter2}]}",
    "hydra.overrides.hydra=['+hydra.job.env_set={DB_TOKEN:hunter2}']",
    "hydra.launcher.setup=['export DB_TOKEN=hunter2']",
    "hydra.launcher.ray.init={_redis_password:hunter2}",
    "+hydra.launcher.headers=['Authorization: Bearer hunter2']",
]  # fmt: skip


@pytest.mark.parametrize("word", SPELLINGS)
def test_a_secret_inside_of_a_value_of_hydra_is_refused(word: str) -> None:
    """A mapping, a list or a sweep would have it in Hydra's files: one line without it says so."""
    with pytest.raises(ConfigError, match=r"Set .*environment variable") as error:
        credentials.sealed_override(word)
    assert "hunter" not in str(error.value)


@pytest.mark.parametrize(
    "word",
    [
        "+hydra.job.env_set={OMP_NUM_THREADS:2,DB_TOKEN:'${oc.env:DB_TOKEN}'}",
        "+hydra.job.env_set.DB_TOKEN=${oc.env:OTHER}",
        "hydra.job.env_copy=[DB_TOKEN]",
        "hydra.launcher.setup=['export DB_TOKEN=$OTHER','module load cuda']",
        "hydra.sweeper.params={seed:[0,1],regularization.lam:'range(1,3)'}",
        "hydra.verbose=[hydra,__main__]",
        "hydra.run.dir=${runs:}/token",
    ],
)
def test_what_names_a_variable_holds_no_secret(word: str) -> None:
    """A reference to the environment, and what has nothing to do with it, stays as it is."""
    assert credentials.sealed_override(word) == word


def test_a_masked_address_needs_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that was copied from a page finds it in the environment, or says where it goes."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match=r"Received: http://\*\*\*@h\. Set MLFLOW_TRACKING_URI"):
        revealed("http://***@h")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://bob:hunter2@h")
    assert revealed("http://***@h") == "http://bob:hunter2@h"
    assert sealed("http://bob:hunter3@h") == "http://***@h"
    assert revealed("http://***@h") == "http://bob:hunter3@h"


def test_the_words_of_a_command_are_masked() -> None:
    """An address ends where its word does, not at a space."""
    words = ["-m", "tracking.uri=http://bob:hun ter2@h", "--uri=http://t0ken@h", "http://t0ken@h"]
    masks = ["-m", "tracking.uri=http://***@h", "--uri=http://***@h", "http://***@h"]
    assert masked_words(words) == masks
