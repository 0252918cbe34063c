"""Recipes: defaults, overrides, complaints in the user's terms, and TOML that loads back equal."""

from __future__ import annotations

import tomllib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.config import SECTIONS, Recipe, build, dump, load_recipe
from clew.errors import ConfigError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
OPTION = st.one_of(st.booleans(), st.integers(-(2**60), 2**60), NUMBER, TEXT, st.lists(NUMBER, max_size=3))
RECIPES = st.fixed_dictionaries(
    {
        "task": st.sampled_from(["", "forecast"]),
        "seed": st.integers(0, 2**63 - 1),
        "data": st.fixed_dictionaries(
            {
                "train": TEXT,
                "target": TEXT,
                "inputs": st.lists(TEXT, max_size=3),
                "valid": st.floats(0.01, 0.44),
                "test": st.floats(0.01, 0.44),
                "anchor": st.sampled_from(["auto", "season", "last", "none"]),
            }
        ),
        "model": st.fixed_dictionaries({"cell": TEXT, "cell_options": st.dictionaries(TEXT, OPTION, max_size=4)}),
        "train": st.fixed_dictionaries({"lr": st.floats(1e-12, 1e6), "epochs": st.integers(0, 10**6)}),
    }
)


def test_every_key_has_a_default_and_a_description():
    assert build({}) == Recipe()
    for kind in (Recipe, *SECTIONS.values()):
        for name, field in kind.model_fields.items():
            assert field.description, f"{kind.__name__}.{name}"


@settings(deadline=None)  # others may keep the machine busy
@given(RECIPES)
def test_dump_loads_back_equal(tables):
    recipe = build(tables)
    again = build(tomllib.loads(dump(recipe)))
    assert again == recipe
    # 1, 1.0 and True are equal in Python, but not to a cell
    kinds = [[type(v) for v in r.model.cell_options.values()] for r in (recipe, again)]
    assert kinds[0] == kinds[1]


def test_dump_refuses_what_toml_cannot_say():
    with pytest.raises(ConfigError, match="not text"):
        dump(build({}).model_copy(update={"task": "\udcff"}))


def test_overrides_by_dotted_and_bare_keys():
    given_tables = {"train": {"lr": 1.0}}
    recipe = build(
        given_tables, ["train.lr=1e-3", "width = 16", "cell=gru", "seed=7", "model.cell_options.zoneout=0.1"]
    )
    assert (recipe.train.lr, recipe.model.width, recipe.model.cell, recipe.seed) == (1e-3, 16, "gru", 7)
    assert recipe.model.cell_options == {"zoneout": 0.1}
    assert given_tables == {"train": {"lr": 1.0}}, "the tables given stay as they were"


def test_columns_may_be_counted():
    recipe = build({}, ["target=2", "inputs=[1, 'load']"])
    assert recipe.data.target == "2"
    assert recipe.data.inputs == ["1", "load"]
    assert build({"data": {"inputs": "load"}}).data.inputs == ["load"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.lrr=1", ["unknown key 'train.lrr'", "did you mean 'lr'?"]),
        ("lrr=1", ["unknown key 'lrr'", "did you mean 'lr'?"]),
        ("model.lr=1", ["unknown key 'model.lr'", "did you mean 'train.lr'?"]),
        ("trian.lr=1", ["unknown key 'trian'", "did you mean 'train'?"]),
        ("lr=-1", ["train.lr", "greater than 0", "got -1"]),
        ("lr=inf", ["train.lr", "finite", "got inf"]),
        ("width=0", ["model.width", "greater than or equal to 1", "got 0"]),
        ("width=wide", ["model.width", "integer", "got 'wide'"]),
        ("epochs=true", ["train.epochs", "number", "got True"]),
        ("norm=batch", ["model.norm", "'none', 'layer' or 'rms'", "got 'batch'"]),
        ("model.cell_options.a={b=1}", ["model.cell_options.a:"]),
        ("data=3", ["data: should be a table", "got 3"]),
        ("lr", ["'lr' is not KEY=VALUE", "--set"]),
    ],
)
def test_complaints_name_the_key_the_value_and_what_is_allowed(override, said):
    with pytest.raises(ConfigError) as caught:
        build({}, [override])
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"data": {"valid": 0.45, "test": 0.45}}, "valid and test together"),
        ({"train": {"epochs": 1, "steps": 1}}, "one of epochs, steps and minutes"),
        ({"train": "series.csv"}, "train: should be a table"),
    ],
)
def test_keys_that_do_not_go_together(tables, said):
    with pytest.raises(ConfigError, match=said):
        build(tables, ["train.lr=0.1"])


def test_load_recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbfseed = 3\n[model]\nwidth = 8\n")
    assert load_recipe(path) == {"seed": 3, "model": {"width": 8}}


def test_load_recipe_names_the_row(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("seed = 3\n\n[model]\ncell = lstm\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert (caught.value.file, caught.value.row) == (path, 4)


def test_load_recipe_missing_folder_or_binary(tmp_path):
    (tmp_path / "recipe.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_recipe(tmp_path / "recipe.toml")
    with pytest.raises(ConfigError, match=r"did you mean 'recipe\.toml'"):
        load_recipe(tmp_path / "recipes.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path)


def test_a_bare_key_means_one_section() -> None:
    """But for those that are known to stand in two, which have to be written with their section."""
    homes = Counter(name for section in SECTIONS.values() for name in section.model_fields)
    assert {name for name, count in homes.items() if count > 1} == {"coverage"}
