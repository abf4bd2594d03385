"""The generated task "solids": classify six voxelized solids of any size, position and orientation."""

from collections.abc import Iterator

import numpy as np

from jaxconv.app.data.arrays import Splits
from jaxconv.app.data.bounds import MOST, MOST_SEED, between, check_memory

SMALLEST, LARGEST = 0.28, 0.37  # cube root of a solid's volume, as a fraction of the grid's side
REACH = 1.2491  # radius of the tetrahedron of volume 1 about its centroid, the largest of all solids below
_BLOCK = 1 << 20  # voxels computed at a time: 8 MiB for each float64 temporary


def sphere(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y + z * z) - (3 / (4 * np.pi)) ** (1 / 3)


def cube(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.maximum(np.maximum(abs(x), abs(y)), abs(z)) - 0.5


def cylinder(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Compute the cylinder: height four radii, volume pi r^2 * 4r."""
    r = (1 / (4 * np.pi)) ** (1 / 3)
    return np.maximum(np.sqrt(x * x + y * y) - r, abs(z) - 2 * r)


def cone(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Compute the cone: height two radii, volume pi r^2 * 2r / 3; centroid at a quarter of the height."""
    r = (3 / (2 * np.pi)) ** (1 / 3)
    return np.maximum(np.sqrt(x * x + y * y) - (1.5 * r - z) / 2, -z - r / 2)


def tetrahedron(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Compute the regular tetrahedron: volume 8 sqrt(3) r^3 for an inscribed ball of radius r."""
    r = (1 / (8 * np.sqrt(3))) ** (1 / 3)
    faces = np.maximum(np.maximum(x + y + z, x - y - z), np.maximum(y - x - z, z - x - y))
    return faces / np.sqrt(3) - r


def torus(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Compute the torus: ring radius 2.5 tube radii, volume 2 pi^2 * 2.5 r^3."""
    r = (1 / (5 * np.pi**2)) ** (1 / 3)
    ring = np.sqrt(x * x + y * y) - 2.5 * r
    return np.sqrt(ring * ring + z * z) - r


# Each function is negative inside its solid, which has volume 1 and its centroid at the origin.
SOLIDS = {solid.__name__: solid for solid in (sphere, cube, cylinder, cone, tetrahedron, torus)}


def solids(*, size: int = 16, train: int = 2000, test: int = 600, noise: float = 0.0, seed: int = 0) -> Splits:
    """Generate voxelized solids: sphere, cube, cylinder, cone, tetrahedron, torus, in equal numbers and random order.

    A voxel is 1 if its center is inside the solid. Volume (its cube root is uniform in 0.28..0.37 of the grid's side),
    orientation (uniform over all rotations) and centroid (uniform over the positions where the tetrahedron fits) have
    the same distribution for every class, so that only the shape differs. The height of the cylinder is four radii,
    that of the cone two; the ring radius of the torus is 2.5 times that of its tube.

    Test accuracy with the defaults: majority 0.167; logistic regression on the voxels 0.462 (the best of C = 0.001,
    0.01, 0.1); three Conv3D(3x3x3) with 16, 32 and 64 filters, each with max pooling, 0.97 after 7 epochs of Adam.

    Args:
        size: voxels along each side of the grid, at least 8; below 16 the solids are hard to distinguish.
        train, test: number of samples in each set. Each set depends only on ``seed`` and its own size.
        noise: probability that a voxel is flipped, independently of the others, 0 to 0.5.
        seed: the same seed gives the same volumes.

    Shapes:
        x ``(samples, size, size, size, 1)`` float32, 0 or 1; y ``(samples,)`` int32.

    Raises:
        ValueError: a size is too small, ``noise`` is out of range or ``seed`` negative.

    >>> splits = solids(train=6, test=6)
    >>> splits.x_train.shape, sorted(splits.y_test.tolist()), splits.classes[5]
    ((6, 16, 16, 16, 1), [0, 1, 2, 3, 4, 5], 'torus')
    """
    between(8, MOST, size=size)
    between(1, MOST, train=train, test=test)
    between(0, 0.5, noise=noise)
    check_memory(size**3 * (train + test), size=size, train=train, test=test)
    between(0, MOST_SEED, seed=seed)
    x_train, y_train = _volumes(np.random.default_rng((seed, 0)), train, size, noise)
    x_test, y_test = _volumes(np.random.default_rng((seed, 1)), test, size, noise)
    return Splits(x_train, y_train, x_test, y_test, tuple(SOLIDS))


def _volumes(rng: np.random.Generator, samples: int, size: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    y = rng.permutation(np.arange(samples) % len(SOLIDS)).astype(np.int32)
    side = size * rng.uniform(SMALLEST, LARGEST, samples)
    center = rng.uniform(-1, 1, (samples, 3)) * (size / 2 - REACH * side)[:, None]
    rotation = rotations(rng.standard_normal((samples, 4)))
    x = np.empty((samples, size**3), np.float32)
    for label, field in enumerate(SOLIDS.values()):
        for block in _blocks(np.flatnonzero(y == label), size**3):
            x[block] = field(*_coordinates(size, side[block], center[block], rotation[block])) < 0
    for block in _blocks(np.arange(samples if noise else 0), size**3):
        x[block] = np.where(rng.random((len(block), size**3)) < noise, 1 - x[block], x[block])
    return x.reshape(samples, size, size, size, 1), y


def _blocks(samples: np.ndarray, voxels: int) -> Iterator[np.ndarray]:
    """Divide a list of samples into blocks with small float64 temporaries."""
    step = max(1, _BLOCK // voxels)
    return (samples[start : start + step] for start in range(0, len(samples), step))


def _coordinates(size: int, side: np.ndarray, center: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return each voxel center in the frame of each unit solid: ``(3, samples, size**3)``."""
    axis = np.arange(size) - (size - 1) / 2
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)
    return np.einsum("nij,njv->inv", rotation / side[:, None, None], grid - center[:, :, None])


def rotations(quaternions: np.ndarray) -> np.ndarray:
    """Convert quaternions ``(samples, 4)`` of any length to rotation matrices ``(samples, 3, 3)``.

    Normally distributed quaternions give uniformly distributed rotations (Shoemake, "Uniform random
    rotations", 1992).
    """
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)
