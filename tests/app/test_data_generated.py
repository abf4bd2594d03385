"""Generated data: the geometry of the solids, the markers of the adding problem, seeds."""

import numpy as np
import pytest

from jaxconv.app.data import load
from jaxconv.app.data.solids import LARGEST, REACH, SMALLEST, SOLIDS, rotations


def fine_grid(side=2.6, points=130):
    """Return points 0.02 apart, rotated so that no face of a solid is parallel to the grid, and the volume of each."""
    axis = (np.arange(points) + 0.5) * side / points - side / 2
    rotation = rotations(np.array([[0.9, 0.3, -0.2, 0.1]]))[0]
    return np.einsum("ij,jxyz->ixyz", rotation, np.meshgrid(axis, axis, axis, indexing="ij")), (side / points) ** 3


@pytest.mark.parametrize("name", list(SOLIDS))
def test_solid_has_volume_one_and_its_centroid_at_the_origin(name):
    grid, cell = fine_grid()
    inside = SOLIDS[name](*grid) < 0
    # the error is that of the points near the surface (5 to 7 units of area): about 15,000 coin tosses for 8e-6 each
    assert np.sum(inside) * cell == pytest.approx(1, abs=0.003)
    np.testing.assert_allclose([axis[inside].mean() for axis in grid], 0, atol=0.003)


@pytest.mark.parametrize("name", list(SOLIDS))
def test_solid_stays_within_reach(name):
    grid, _ = fine_grid()
    radius = np.sqrt(sum(axis**2 for axis in grid))
    farthest = radius[SOLIDS[name](*grid) < 0].max()
    expected = {  # from the volume formulas: sphere, half diagonals, distance to the rim, apex or vertex
        "sphere": (3 / (4 * np.pi)) ** (1 / 3),
        "cube": np.sqrt(3) / 2,
        "cylinder": np.sqrt(5) * (4 * np.pi) ** (-1 / 3),
        "cone": 1.5 * (3 / (2 * np.pi)) ** (1 / 3),
        "tetrahedron": np.sqrt(6) / 4 * (6 * np.sqrt(2)) ** (1 / 3),
        "torus": 3.5 * (5 * np.pi**2) ** (-1 / 3),
    }[name]
    assert expected - 0.06 < farthest <= expected  # the outermost grid point may miss a sharp tip by three steps
    assert expected <= REACH


def test_solids_have_hand_computed_surface_points():
    """Check faces, rims and vertices at hand-computed points."""
    half = 0.5
    assert SOLIDS["cube"](half, 0.0, 0.3) == SOLIDS["cube"](0.1, -half, 0.2) == 0
    r = (3 / (2 * np.pi)) ** (1 / 3)
    np.testing.assert_allclose([SOLIDS["cone"](0.0, 0.0, 1.5 * r), SOLIDS["cone"](r, 0.0, -r / 2)], 0, atol=1e-12)
    assert SOLIDS["cone"](0.0, 0.0, -0.49 * r) < 0 < SOLIDS["cone"](0.0, 0.0, -0.51 * r)
    assert SOLIDS["torus"](0.0, 0.0, 0.0) > 0  # the hole
    a = (6 * np.sqrt(2)) ** (
        1 / 3
    )  # edge of the tetrahedron; its vertices are alternate corners of a cube of side a/sqrt(2)
    corner = a / np.sqrt(8)
    for signs in [(-1, -1, -1), (-1, 1, 1), (1, -1, 1), (1, 1, -1)]:
        np.testing.assert_allclose(SOLIDS["tetrahedron"](*(corner * np.array(signs))), 0, atol=1e-12)


def test_rotations_are_proper_and_reach_every_orientation():
    rotation = rotations(np.random.default_rng(0).standard_normal((4000, 4)))
    np.testing.assert_allclose(
        np.einsum("nij,nkj->nik", rotation, rotation), np.broadcast_to(np.eye(3), rotation.shape), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-12)
    # uniform: each entry is uniform in -1..1, so mean 0 and variance 1/3; 0.05 is over five standard errors
    np.testing.assert_allclose(rotation.mean(0), 0, atol=0.05)
    np.testing.assert_allclose((rotation**2).mean(0), 1 / 3, atol=0.05)


def test_rotation_of_a_known_quaternion():
    """A rotation by 90 degrees about z maps x to y."""
    rotation = rotations(np.array([[1.0, 0, 0, 1.0]]))[0]
    np.testing.assert_allclose(rotation @ [1, 0, 0], [0, 1, 0], atol=1e-12)


@pytest.fixture(scope="module")
def many():
    return load({"source": "solids", "train": 1800, "test": 60})


def test_solids_are_voxels_of_zero_and_one_in_balanced_classes(many):
    assert many.x_train.shape == (1800, 16, 16, 16, 1)
    assert many.x_train.dtype == np.float32
    assert many.y_train.dtype == np.int32
    assert set(np.unique(many.x_train).tolist()) == {0.0, 1.0}
    assert np.bincount(many.y_train).tolist() == [300] * 6
    assert many.classes == ("sphere", "cube", "cylinder", "cone", "tetrahedron", "torus")
    assert many.y_train[:6].tolist() != sorted(many.y_train[:6].tolist())


def test_solids_of_every_class_have_the_same_mean_volume(many):
    """The expected number of points of a random lattice inside a solid is the solid's volume."""
    sides = np.linspace(SMALLEST, LARGEST, 1001) * 16
    expected = np.mean(sides**3)  # 141.6 voxels
    volumes = many.x_train.sum((1, 2, 3, 4))
    error = np.std(sides**3) / np.sqrt(300)  # 2.1 voxels
    for label in range(6):
        assert abs(volumes[many.y_train == label].mean() - expected) < 4 * error


def test_solids_are_inside_the_grid_and_centered_on_average(many):
    axis = np.arange(16) - 7.5
    volumes = many.x_train.sum((1, 2, 3, 4))
    for place in ("nxyzc,x->n", "nxyzc,y->n", "nxyzc,z->n"):
        centroids = np.einsum(place, many.x_train, axis) / volumes
        assert abs(centroids).max() < 8 - SMALLEST * 16 * REACH + 0.3  # 0.3: centroid of the voxels, not of the solid
        assert abs(centroids.mean()) < 4 * centroids.std() / np.sqrt(1800)


def test_sphere_has_the_same_radius_in_every_direction(many):
    x = many.x_train[many.y_train == 0][..., 0]
    assert x[:, 0].sum() == x[:, :, -1].sum() == 0  # it does not touch the border
    extents = [np.any(x, axis=axes).sum(axis=1) for axes in ((2, 3), (1, 3), (1, 2))]
    assert max(np.ptp(extents, axis=0)) <= 2  # voxel counts along the axes differ by the rounding of two ends


def test_noise_flips_the_given_fraction_of_voxels():
    clean = load({"source": "solids", "train": 30, "test": 1})
    noisy = load({"source": "solids", "train": 30, "test": 1, "noise": 0.1})
    np.testing.assert_array_equal(clean.y_train, noisy.y_train)
    flipped = clean.x_train != noisy.x_train
    for voxels in (flipped[clean.x_train == 0], flipped[clean.x_train == 1]):
        assert abs(voxels.mean() - 0.1) < 5 * 0.3 / np.sqrt(voxels.size)  # five standard errors
    assert set(np.unique(noisy.x_train).tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("source", "key", "value", "allowed"),
    [
        ("solids", "size", 4, "8 to 1000000000"),
        ("solids", "train", 0, "1 to 1000000000"),
        ("solids", "noise", 0.6, "0 to 0.5"),
        ("solids", "seed", -1, f"0 to {2**63 - 1}"),
        ("adding_problem", "length", 10**18, "2 to 1000000000"),
        ("adding_problem", "test", 0, "1 to 1000000000"),
        ("adding_problem", "seed", -1, f"0 to {2**63 - 1}"),
    ],
)
def test_numbers_out_of_range_are_refused(source, key, value, allowed):
    with pytest.raises(ValueError, match=rf"^data\.{key}: {value} .* {allowed}$"):
        load({"source": source, key: value})


# The adding problem


@pytest.mark.parametrize("length", [2, 7, 200])
def test_adding_problem_marks_one_step_in_each_half_and_sums_their_values(length):
    splits = load({"source": "adding_problem", "length": length, "train": 500, "test": 20})
    x, y = splits.x_train, splits.y_train
    assert (x.shape, y.shape, x.dtype, y.dtype) == ((500, length, 2), (500, 1), np.float32, np.float32)
    assert splits.classes is None
    values, markers = x[..., 0], x[..., 1]
    assert set(np.unique(markers).tolist()) <= {0.0, 1.0}
    assert np.all(markers[:, : length // 2].sum(1) == 1)
    assert np.all(markers[:, length // 2 :].sum(1) == 1)
    for case in range(20):
        first, second = np.flatnonzero(markers[case])
        assert y[case, 0] == values[case, first] + values[case, second]
    assert values.min() >= 0
    assert values.max() < 1


def test_adding_problem_reaches_every_step():
    markers = load({"source": "adding_problem", "length": 9, "train": 500, "test": 1}).x_train[..., 1]
    assert np.all(markers.sum(0) > 0)


def test_the_constant_prediction_one_has_an_error_of_a_sixth():
    y = load({"source": "adding_problem", "length": 2, "train": 100_000, "test": 1}).y_train.astype(np.float64)
    # the squared error has standard deviation sqrt(1/15 - 1/36) = 0.197, so the mean of 1e5 one of 0.0006
    assert np.mean((y - 1) ** 2) == pytest.approx(1 / 6, abs=4 * 0.0007)


# Seeds


@pytest.mark.parametrize("source", ["solids", "adding_problem"])
def test_same_seed_same_numbers_and_sets_are_independent(source):
    small, again, larger, other = (
        load({"source": source, "train": train, "test": 6, "seed": seed})
        for train, seed in [(6, 1), (6, 1), (12, 1), (6, 2)]
    )
    np.testing.assert_array_equal(small.x_train, again.x_train)
    np.testing.assert_array_equal(small.y_test, again.y_test)
    np.testing.assert_array_equal(
        small.x_test, larger.x_test
    )  # the test set does not depend on the training set's size
    assert not np.array_equal(small.x_train, small.x_test)
    assert not np.array_equal(small.x_train, other.x_train)


def test_generators_return_the_recorded_numbers():
    """The first numbers of seed 0: a change of the stream would change every published result."""
    solids = load({"source": "solids", "train": 12, "test": 1})
    assert solids.y_train.tolist() == [3, 2, 1, 4, 5, 5, 0, 3, 0, 4, 2, 1]
    assert solids.x_train[:4].sum((1, 2, 3, 4)).tolist() == [178, 90, 185, 93]
    adding = load({"source": "adding_problem", "length": 8, "train": 3, "test": 1})
    np.testing.assert_allclose(adding.y_train[:, 0], [1.7260258, 1.5673432, 0.948464], rtol=1e-6)  # float32
