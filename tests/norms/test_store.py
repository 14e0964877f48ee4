"""Variables by name, scopes, collections and waiting updates."""

import threading

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from minigrad_norms.store import Update


@pytest.fixture(autouse=True)
def store():
    with norms.VariableStore() as store:
        yield store


def test_names_and_sharing(store):
    with norms.variable_scope("a"), norms.variable_scope("b") as b:
        w = norms.get_variable("w", (2, 3), initializer="ones")
        assert b.name == "a/b"
    assert store.variables == {"a/b/w": w}
    assert w.name == "a/b/w"
    assert w.numpy().tolist() == [[1.0] * 3] * 2
    with norms.variable_scope("a", reuse=True), norms.variable_scope("b"):
        assert norms.get_variable("w") is w
        assert norms.get_variable("w", (2, 3)) is w
    with norms.variable_scope(b, reuse=norms.AUTO_REUSE):
        assert norms.get_variable("w", (2, 3)) is w
        assert norms.get_variable("v", (1,)).name == "a/b/v"
    with norms.variable_scope("other"), norms.variable_scope(b, reuse=True):  # a Scope is opened where it was
        assert norms.get_variable("w") is w


def test_reuse_false_inherits_as_in_tensorflow():
    w = norms.get_variable("a/w", (2,))
    with (
        norms.variable_scope("a", reuse=True),
        norms.variable_scope("b", reuse=False),
        pytest.raises(ArgumentError, match="reuse=True makes none"),
    ):
        norms.get_variable("w", (2,))
    with norms.variable_scope("a", reuse=norms.AUTO_REUSE):
        assert norms.get_variable("w", (2,), reuse=False) is w


def test_clashes_and_misses():
    norms.get_variable("w", (2,))
    with pytest.raises(ArgumentError, match="'w' exists already; reuse=True or AUTO_REUSE shares it"):
        norms.get_variable("w", (2,))
    with pytest.raises(ArgumentError, match=r"'v' does not exist, and reuse=True makes none; there are \['w'\]"):
        norms.get_variable("v", (2,), reuse=True)
    with pytest.raises(ShapeError, match=r"'w' has shape \(2,\), expected \(3,\)"):
        norms.get_variable("w", (3,), reuse=True)
    with pytest.raises(DTypeError, match="'w' has dtype float32, expected float64"):
        norms.get_variable("w", (2,), "float64", reuse=True)
    with pytest.raises(ArgumentError, match="given no shape"):
        norms.get_variable("u")
    with pytest.raises(ShapeError, match=r"the initializer of 'u' gave \(1,\), expected \(2,\)"):
        norms.get_variable("u", (2,), initializer=lambda shape, dtype, generator: np.zeros(1))
    with pytest.raises(ArgumentError, match="reuse=True needs a name"):
        norms.variable_scope(None, "BatchNorm", reuse=True)
    with pytest.raises(ArgumentError, match="neither a name nor a default"):
        norms.variable_scope(None)
    with pytest.raises(ArgumentTypeError, match="reuse is 'yes'"):
        norms.variable_scope("a", reuse="yes")
    with pytest.raises(ArgumentTypeError, match="expected a name or a Scope"):
        norms.variable_scope(3)
    assert list(norms.get_store().variables) == ["w"]


def test_default_names_count_anew_in_each_block_and_each_scope(store):
    def names():
        found = []
        for _ in range(2):
            with norms.variable_scope(None, "BatchNorm") as scope:
                found.append(scope.name)
        return found

    assert names() == ["BatchNorm", "BatchNorm_1"]
    assert names() == ["BatchNorm_2", "BatchNorm_3"]
    with store:
        assert names() == ["BatchNorm", "BatchNorm_1"]
    for _ in range(2):
        with norms.variable_scope("net"):
            assert names() == ["net/BatchNorm", "net/BatchNorm_1"]
    store.clear()
    assert names() == ["BatchNorm", "BatchNorm_1"]


def test_collections_of_variables(store):
    w = norms.get_variable("a/w", (2,), regularizer=lambda v: mg.sum(v * v), initializer="ones", collections="mine")
    state = norms.get_variable("b/state", (), trainable=False, initializer="zeros", collections=["mine", "yours"])
    assert norms.get_collection(norms.GLOBAL_VARIABLES) == [w, state]
    assert [v is w for v in norms.get_collection(norms.TRAINABLE_VARIABLES)] == [True]
    assert [v.name for v in norms.get_collection("mine")] == ["a/w", "b/state"]
    assert [v.name for v in norms.get_collection("mine", "a")] == ["a/w"]
    assert [v.name for v in norms.get_collection("yours")] == ["b/state"]
    assert norms.get_collection("nobody's") == []
    (penalty,) = norms.get_collection(norms.REGULARIZATION_LOSSES)
    assert penalty.item() == 2.0
    w.assign([3.0, 0.0])
    assert norms.get_collection(norms.REGULARIZATION_LOSSES)[0].item() == 9.0  # of the values of now
    assert norms.get_collection(norms.REGULARIZATION_LOSSES, "b") == []
    norms.get_collection("mine").clear()  # the caller's own list
    assert len(norms.get_collection("mine")) == 2
    norms.get_variable("a/w", (2,), reuse=True, collections="mine")
    assert len(norms.get_collection("mine")) == 2
    store.clear_collection("mine")
    assert norms.get_collection("mine") == []


def test_updates_run_once_in_their_order_and_leave_all_collections(store):
    done = []
    updates = [Update(str(i), lambda i=i: done.append(i)) for i in range(3)]
    for update in updates:
        norms.add_to_collection("first", update)
    norms.add_to_collection("second", updates[1])
    updates[2]()
    assert norms.run_updates("first") == 2
    assert done == [2, 0, 1]
    assert norms.get_collection("first") == norms.get_collection("second") == []
    assert norms.run_updates("first") == 0
    updates[0]()
    assert done == [2, 0, 1]
    assert repr(updates[0]) == "<Update 0, run>"


def test_a_key_takes_the_place_of_what_it_named(store):
    store.add("outputs", "old", "bn")
    store.add("outputs", "other", "bn2")
    store.add("outputs", "new", "bn")
    assert norms.get_collection("outputs") == ["new", "other"]


def test_stores_nest_and_threads_have_their_own(store):
    norms.get_variable("w", (1,))
    with norms.VariableStore() as inner:
        assert norms.get_store() is inner
        norms.get_variable("w", (5,))
    assert norms.get_store() is store
    with pytest.raises(ZeroDivisionError), norms.VariableStore(), norms.variable_scope("a"):
        1 / 0
    assert norms.get_store() is store
    assert store.scope.name == ""
    seen = []
    thread = threading.Thread(target=lambda: seen.append(norms.get_store()))
    thread.start()
    thread.join()
    assert seen[0] is not store
    assert seen[0].variables == {}
