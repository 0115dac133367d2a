"""Every learning rule in plain NumPy: slow, simple, and the specification that the fast kernels are tested against.

The modules, in reading order; they need only NumPy and one another.

- :mod:`.optimizers`     Adam, momentum and plain gradient descent; Nesterov's and PEPITA's momentum
- :mod:`.slices`         the M x M grid of a layer's weights, and which slice trains when
- :mod:`.training`       the training loop of every rule; schedules, and the optimizers of slices
- :mod:`.tinyfoa`        TinyFoA: forward, logits, loss, gradient, training of a layer and of a network
- :mod:`.tinyfoa_local`  TinyFoA on locally connected layers, with batch norm
- :mod:`.bits`           signs and activations packed 64 to a word, and dot products on them
- :mod:`.random`         Philox: random numbers by counter
- :mod:`.moments`        an optimizer's moments in one or two bytes, rounded at random

The baselines that TinyFoA is compared with use the first four modules and :mod:`.dense`, their common part:

- :mod:`.bp`             backpropagation
- :mod:`.bp_local`       backpropagation through locally connected layers, with :mod:`.tinyfoa_local`
- :mod:`.ff`             the forward-forward algorithm
- :mod:`.drtp`           direct random target projection
- :mod:`.pepita`         present the error to perturb the input to modulate activity
- :mod:`.pepita_tl`      PEPITA with a separate step per pass; weight mirroring

Further forward-only rules:

- :mod:`.biofo`          Bio-FO: TinyFoA's equations with real weights and another head; convolutional layers
- :mod:`.feedback`       feedback alignment: FA, DFA, sDFA, and DRTP on convolutional networks
- :mod:`.monoforward`    Mono-Forward: each layer with a learned head
- :mod:`.lightff`        LightFF: forward-forward inference that stops early
- :mod:`.cwcomp`         CwComp: channels compete for the classes
- :mod:`.deeperforward`  DeeperForward: goodness as a mean, and shortcuts

Deeper networks:

- :mod:`.conv`           convolutions, batch norm, pooling, each with its gradient
- :mod:`.graph`          layers made of these operations, built from their description
- :mod:`.giff`           GIFF: groups of such layers, each with its own loss

Letters: B batch, I inputs, O outputs, C classes, M slices per side. All functions return new arrays and do not
modify their arguments. Floating-point results have the type of the arguments: float32 as in the paper, or float64
in tests that need more precision.

Examples
--------
Two classes of points, two layers of 32 neurons, each trained for 80 epochs on the same two batches:

>>> import numpy as np
>>> from tinyfoa_np.reference import tinyfoa
>>> x = np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32)
>>> y = (x[:, 0] > x[:, 1]).astype(np.int64)
>>> batches = [(x[:40], y[:40]), (x[40:], y[40:])]
>>> layers = tinyfoa.train(batches, widths=[32, 32], classes=2, schedule="stream", epochs=80, lr=1e-2)
>>> [layer.W.shape for layer in layers]
[(32, 10), (32, 32)]
>>> bool(np.mean(tinyfoa.predict(x, layers) == y) > 0.9)
True
"""
