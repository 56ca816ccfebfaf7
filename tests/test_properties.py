"""Properties that hold for any input: names, YAML, options, bundles. What is wrong is a UserError in one line, nothing else."""

import contextlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iddmbench.adaptive import parse
from iddmbench.attacker import ATTACKERS, build_attacker, split_detector
from iddmbench.cli.new import write
from iddmbench.cli.run import pairs
from iddmbench.cli.submit import slug
from iddmbench.defense import DEFENSES, configure
from iddmbench.errors import UserError, did_you_mean, printable
from iddmbench.faces.images import rgb_images
from iddmbench.guards import checked_embeddings, checked_images
from iddmbench.models.recipe import Recipe
from iddmbench.perturb.purifier import purifier
from iddmbench.photos.dataset import DATASETS, check_options
from iddmbench.plugins import Kind
from iddmbench.run.config import RunConfig, make_config
from iddmbench.submission.read import open_bundle
from iddmbench.sweep.config import build_sweep, parse_changes
from iddmbench.types import Embeddings
from iddmbench.yaml_text import read_value, read_yaml

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# A surrogate can't be encoded, and argv is text that the system decoded: both occur in names.
texts = st.text(st.characters(), max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@contextlib.contextmanager
def refused_at_most():
    """A UserError of one clear line, or none."""
    try:
        yield
    except UserError as error:
        line = printable(str(error))
        assert line and "\n" not in line and "Traceback" not in line


# ---- names --------------------------------------------------------------------------------------------------------------


@quick
@given(texts)
def test_printable_never_holds_what_a_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable() and printable(shown) == shown
    if text.isprintable() and text == " ".join(text.split()):
        assert shown == text


@quick
@given(texts, st.lists(texts, max_size=4))
def test_hints_name_all_that_is_known(name: str, known: list[str]) -> None:
    hint = did_you_mean(name, known)
    assert "known: " in hint and all(one in hint for one in known)


@quick
@given(texts)
def test_any_name_of_an_attacker_is_built_or_refused(name: str) -> None:
    with refused_at_most():
        parse(name)
    with refused_at_most():
        build_attacker(name)
    system, detector = split_detector(name)
    assert name in (system, f"{system}:{detector}")


@quick
@given(texts)
def test_registries_and_purifiers_refuse_unknown_names(name: str) -> None:
    for registry in (ATTACKERS, DEFENSES):
        if name not in registry.names():
            with pytest.raises(UserError, match="unknown"):
                registry.get(name)
    with refused_at_most():
        purifier(name)


@quick
@given(texts)
def test_a_new_plugin_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    with contextlib.suppress(UserError):
        folder = write(Kind.defense, name, tmp_path)
        assert folder.parent == tmp_path
    assert all(path.name.startswith("iddmbench-") for path in tmp_path.iterdir())


@quick
@given(texts)
def test_slugs_are_plain_file_names_and_stay_what_they_are(name: str) -> None:
    short = slug(name)
    assert Path(short).name == short and short.isascii() and 0 < len(short) <= 60 and slug(short) == short


# ---- options ------------------------------------------------------------------------------------------------------------

FIELDS = sorted(RunConfig.model_fields)


@quick
@given(st.dictionaries(st.sampled_from(FIELDS) | texts, values, max_size=4))
def test_any_configuration_is_made_or_refused(options: dict[str, Any]) -> None:
    with refused_at_most():
        made = make_config(options)
        assert make_config(made.model_dump()) == made
        assert all(0 <= seed <= 2**31 for seed in made.seeds) and all(0 <= s <= 1 for s in made.strengths)
        assert all(prompt.strip() and prompt.isprintable() for prompt in made.prompts)


@quick
@given(st.sampled_from(["iddm", "aspl", "cloak", "blur"]), st.data())
def test_any_option_of_a_defense_is_taken_or_refused(name: str, data: st.DataObject) -> None:
    cls = DEFENSES.get(name)
    key = data.draw(st.sampled_from(sorted(cls.model_fields)) | texts)
    value = data.draw(values)
    with refused_at_most():
        made = configure(cls, {key: value})
        again = configure(cls, made.model_dump(mode="json"))
        assert again == made
        number = getattr(made, key)
        assert not isinstance(number, float) or np.isfinite(number)


@quick
@given(st.sampled_from(["rank", "alpha", "steps", "learning_rate", "targets", "prior_weight"]) | texts, values)
def test_any_setting_of_the_personalization_is_taken_or_refused(key: str, value: Any) -> None:
    recipe = Recipe.model_validate({})
    with refused_at_most():
        made = make_config({"lora": {key: value}, "sampling": {}}).training_settings(recipe)
        assert made.rank >= 1 and np.isfinite(made.learning_rate) and made.targets
    with refused_at_most():
        assert np.isfinite(make_config({"sampling": {key: value}}).sampling_settings(recipe).guidance)


@quick
@given(st.sampled_from(["root", "references", "enrolment", "seed"]) | texts, values)
def test_any_option_of_a_dataset_is_of_its_type_or_refused(key: str, value: Any) -> None:
    with refused_at_most():
        check_options(DATASETS.get("folder"), {key: value})
        if key in ("references", "enrolment", "seed"):
            assert int(value) == float(value)


@quick
@given(st.lists(texts, max_size=3))
def test_pairs(options: list[str]) -> None:
    with refused_at_most():
        for key, value in pairs(options, "--set").items():
            assert any(value in option for option in options) and key == key.strip()
    with refused_at_most():
        parse_changes(options)


# ---- YAML ---------------------------------------------------------------------------------------------------------------


@quick
@given(st.text(max_size=60) | st.text(alphabet="&*a[]{}:-?!|>'\"#% \n12", max_size=40))
def test_any_text_is_yaml_or_refused(text: str) -> None:
    with refused_at_most():
        read_value(text, "--set x")
    with refused_at_most():
        content, lines = read_yaml(text, "x.yaml")
        assert isinstance(content, dict) and all(line >= 1 for line in lines.values())
        build_sweep(content, lines, Path("x.yaml"), {})


@quick
@given(st.dictionaries(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=10), values, max_size=4))
def test_what_yaml_writes_is_read_back(content: dict[str, Any]) -> None:
    try:
        text = yaml.safe_dump(content)
        expected = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeEncodeError, ValueError):
        return
    with refused_at_most():
        found, _ = read_yaml(text, "x.yaml")
        assert repr(found) == repr(expected)


# ---- bundles ------------------------------------------------------------------------------------------------------------


@quick
@given(st.binary(max_size=400))
def test_any_bytes_are_refused_as_a_bundle(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    with pytest.raises(UserError):
        open_bundle(path)


NAMES = st.text(max_size=20).filter(lambda name: name.partition("\0")[0])
"""zipfile cuts a name at a null character, and can't write an empty one."""


@quick
@given(st.dictionaries(NAMES | st.just("submission.json"), st.binary(max_size=60), max_size=4))
def test_any_zip_is_refused_as_a_bundle(tmp_path: Path, members: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            try:
                archive.writestr(name, content)
            except (UnicodeEncodeError, ValueError):
                return
    path = tmp_path / "x.zip"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(UserError):
        open_bundle(path)


# ---- what plugins give and take -----------------------------------------------------------------------------------------

shapes = st.lists(st.integers(0, 4), min_size=0, max_size=4).map(tuple)
kinds = st.sampled_from([np.uint8, np.uint16, np.float32, np.float64, bool])


@quick
@given(shapes, kinds, shapes)
def test_only_images_of_the_right_form_pass(shape: tuple[int, ...], kind: Any, wanted: tuple[int, ...]) -> None:
    images = np.zeros(shape, kind)
    if shape == wanted and kind is np.uint8:
        assert checked_images("defense 'x'", images, wanted) is images
    else:
        with pytest.raises(UserError, match="defense 'x' gives"):
            checked_images("defense 'x'", images, wanted)


@quick
@given(st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=3), st.data())
def test_only_unit_vectors_pass(rows: list[list[float]], data: st.DataObject) -> None:
    acquired = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    vectors = np.array(rows, np.float32)
    with contextlib.suppress(UserError):
        found = checked_embeddings("attacker 'x'", Embeddings(vectors, acquired), len(rows), 3)
        lengths = np.linalg.norm(found.vectors.astype(float), axis=1)
        assert np.allclose(lengths, acquired, atol=1.1e-3)
    unit = np.eye(3, dtype=np.float32)[: len(rows)] * acquired[:, None]
    assert checked_embeddings("attacker 'x'", Embeddings(unit, acquired), len(rows), 3).vectors is unit


@quick
@given(shapes, kinds)
def test_only_images_are_taken(shape: tuple[int, ...], kind: Any) -> None:
    image = np.zeros(shape, kind)
    right = kind is np.uint8 and 0 not in shape and (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3))
    if right:
        assert rgb_images([image])[0].shape == (*shape[:2], 3)
    else:
        with pytest.raises((TypeError, ValueError)):
            rgb_images([image])
