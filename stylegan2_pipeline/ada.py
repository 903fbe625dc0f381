"""The controller of adaptive discriminator augmentation (StyleGAN2-ADA, section 3.1)."""

import math
from dataclasses import dataclass


@dataclass
class AdaController:
    """Steers the probability p in [0, 1] of augmentations so that the mean sign of D(reals) stays at a target.

    target: of the mean sign r_t, above which D overfits; interval: iterations between two updates; kimg: thousands of
    images in which p can go from 0 to 1. p is the only state, and a plain number.
    """

    target: float = 0.6
    interval: int = 4
    kimg: float = 500.0
    p: float = 0.0

    def update(self, sign_mean: float, batch: int) -> float:
        """The new p, given the mean sign of D(reals) since the last update and the images of one iteration.

        A sign_mean that is no number (D has failed) leaves p as it is.
        """
        step = batch * self.interval / (self.kimg * 1000)
        if not math.isnan(sign_mean) and sign_mean != self.target:
            self.p += math.copysign(step, sign_mean - self.target)
        self.p = min(max(self.p, 0.0), 1.0)
        return self.p
