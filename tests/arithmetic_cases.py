"""Features, and what our arithmetic makes of them, for comparison with other packages and with their frozen numbers."""

import numpy as np
import torch

from metrics.frechet import Moments, frechet, frechet_of_samples
from metrics.inception_score import split_scores
from metrics.kernel import subset_distances
from metrics.neighbours import prdc

CPU = torch.device("cpu")
SUBSETS, SUBSET_SIZE, K = 10, 25, 3
CASES = {  # real images, generated images, dimensions
    "more than dimensions": (300, 200, 24),
    "fewer than dimensions": (40, 30, 64),
    "real fewer": (30, 300, 64),
    "generated fewer": (300, 40, 64),
}


def features(case):
    """real [N,D], fake [M,D] float32, not negative, as Inception's; the same with every version of numpy."""
    n, m, d = CASES[case]
    rng = np.random.RandomState(0)
    falling = np.arange(1, d + 1) ** -0.5
    real, fake = rng.randn(n, d) * falling, rng.randn(m, d) * falling * 1.1 + 0.1
    return [torch.from_numpy(np.maximum(x + 1, 0).astype(np.float32)) for x in (real, fake)]


def same_draws(n, m):
    """The subsets that torch-fidelity draws: of generated images first."""
    rng = np.random.RandomState(2020)
    for _ in range(SUBSETS):
        fake, real = (torch.from_numpy(rng.choice(count, SUBSET_SIZE, replace=False)) for count in (m, n))
        yield real, fake


def ours(case):
    """Figures by name, in the convention of torch-fidelity and pytorch-fid (ddof 1)."""
    real, fake = features(case)
    kid = subset_distances(real, fake, same_draws(len(real), len(fake)), CPU)
    scores = split_scores(fake, torch.eye(fake.shape[1]))
    found = prdc(real, fake, K)
    return {
        "fid": frechet_of_samples(real, fake, ddof=1),
        "fid of moments": frechet(Moments.of(real.split(7)), Moments.of(fake.split(11)), ddof=1),
        "kid": float(kid.mean()), "kid std": float(kid.std(correction=0)),
        "precision": found.precision, "recall": found.recall,
        "is": float(scores.mean()), "is std": float(scores.std(correction=0)),
    }
