"""The example outside a component, compared with figures of scikit-learn and published vectors."""

import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "sdk/python/src")]

import age  # noqa: E402
import dataset  # noqa: E402
import logistic  # noqa: E402
from strongroom import local  # noqa: E402

DATA = HERE.parent / "data"


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    monkeypatch.delitem(sys.modules, "train", raising=False)
    import train

    train.main()


def test_prepare_and_train_give_the_published_figures(tmp_path, monkeypatch):
    with local.enabled(input=DATA, output=tmp_path) as host:
        command(monkeypatch, "prepare")
        secrets = host.secrets
    assert [path.name for path in tmp_path.iterdir()] == ["breast_cancer.csv.age"]
    trained = tmp_path / "trained"
    trained.mkdir()
    with local.enabled(secrets, input=tmp_path, output=trained) as host:
        command(monkeypatch, "train", "--from-file")
    last = {name: points[-1][1] for name, points in host.metrics.items()}
    assert round(last["train-log-loss"], 5) == 0.06069
    assert round(last["held-out-log-loss"], 5) == 0.04208
    assert last["held-out-accuracy"] == 1.0
    assert round(last["intercept"], 3) == 0.102
    steps = [step for step, _ in host.metrics["loss"]]
    assert steps == list(range(1, len(steps) + 1)) and len(host.progress) == len(steps)

    sealed = (trained / "model.json.age").read_bytes()
    model = json.loads(age.Key.parse(host.secrets["model-key"]).decrypt(sealed))
    expected = [-0.27357, -0.20641, -0.26445, -0.35876, -0.09107]
    assert [round(value, 3) for value in model["coefficients"][:5]] == [
        round(value, 3) for value in expected
    ]
    for path in trained.iterdir():
        assert host.secrets["model-key"].encode() not in path.read_bytes()


def test_fit_with_too_few_iterations_is_not_converged():
    rows = dataset.parse((DATA / "breast_cancer.csv").read_bytes())
    training = dataset.Scaler.fit(rows.training.features).transform(rows.training)
    losses = []
    fit = logistic.fit(training, 1.0, 2, lambda _, loss: losses.append(loss))
    assert (fit.iterations, fit.converged) == (2, False) and losses[0] > losses[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the first line"),
        (b"1,30,a,b\nprivate,0\n", "row 0 does not have 30 features"),
        (b"1,30,a,b\n" + b"private," * 30 + b"0\n", "row 0 has no number"),
        (b"2,30,a,b\n" + b"1," * 30 + b"0\n", "expected 2 rows but found 1"),
        (b"1,30,a,b\n" + b"1," * 30 + b"0\n", "only one class"),
    ],
)
def test_data_errors_show_no_value(content, message):
    with pytest.raises(dataset.DataError, match=message) as raised:
        dataset.parse(content)
    assert "private" not in str(raised.value)


def test_x25519_vector_of_rfc_7748():
    k = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    u = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    assert age._x25519(k, u).hex() == (
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    )


def test_chacha20_poly1305_vector_of_rfc_8439():
    key = bytes(range(0x80, 0xA0))
    nonce = bytes.fromhex("070000004041424344454647")
    plain = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
        b"future, sunscreen would be it."
    )
    stream = age._chacha20(key, nonce, 1, len(plain))
    assert age._xor(plain, stream).hex().startswith("d31a8d34648e60db7b86afbc53ef7ec2")
    # The block function's vector (2.3.2).
    block = age._chacha20(bytes(range(32)), bytes.fromhex("000000090000004a00000000"), 1, 64)
    assert block.hex().startswith("10f1e7e4d13b5915500fdd1fa32071c4")
    # Poly1305 alone (2.5.2).
    key = bytes.fromhex("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
    tag = age._poly1305(key, b"Cryptographic Forum Research Group")
    assert tag.hex() == "a8061dc1305136c6c22b8baf0c0127a9"


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 200_000])
def test_stored_key_decrypts_its_file(size):
    key, plain = age.Key.generate(), bytes(range(256)) * (size // 256 + 1)
    sealed = key.encrypt(plain[:size])
    assert age.Key.parse(key.text() + "\n").decrypt(sealed) == plain[:size]


def test_each_failure_has_its_own_error():
    key = age.Key.generate()
    sealed = key.encrypt(b"rows")
    with pytest.raises(age.AgeError, match="encrypted for another one"):
        age.Key.generate().decrypt(sealed)
    with pytest.raises(age.AgeError, match="starts with `AGE-SECRET-KEY-1`"):
        age.Key.parse("hunter2")
    for damaged in (b"569,30", sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed + b"x"):
        with pytest.raises(age.AgeError, match="not an intact age file"):
            key.decrypt(damaged)
    with pytest.raises(age.AgeError):
        key.decrypt(sealed.replace(b"-> X25519", b"-> X25518"))


def test_changed_key_text_is_refused():
    text = age.Key.generate().text()
    with pytest.raises(age.AgeError):
        age.Key.parse(text[:-1] + ("Q" if text[-1] != "Q" else "P"))
