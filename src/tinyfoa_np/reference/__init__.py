"""Every learning rule in plain NumPy: slow, obvious, and the specification that the fast kernels are tested against.

Read in this order; every module needs only NumPy and the modules above it.

- :mod:`.optimizers`     Adam, momentum and plain gradient descent; Nesterov's and PEPITA's momentum
- :mod:`.slices`         the M x M grid of a layer's weights, and which slice trains when
- :mod:`.training`       the loop that all rules train by, and what the steps of sliced layers share
- :mod:`.tinyfoa`        TinyFoA: forward, logits, loss, gradient, the training of a layer and of a network
- :mod:`.tinyfoa_local`  the same on locally connected layers, with batch norm
- :mod:`.bits`           signs and activations packed 64 to a word, and dot products on them
- :mod:`.random`         Philox: random numbers by counter
- :mod:`.moments`        an optimizer's moments in two bytes or one, rounded at random

The systems that TinyFoA is compared with use the first four and :mod:`.dense`, their common part:

- :mod:`.bp`             backpropagation
- :mod:`.bp_local`       the same through locally connected layers, with :mod:`.tinyfoa_local`
- :mod:`.ff`             the forward-forward algorithm
- :mod:`.drtp`           direct random target projection
- :mod:`.pepita`         present the error to perturb the input to modulate activity
- :mod:`.pepita_tl`      the same, each pass with its own step; weight mirroring

Further forward-only rules, which so far train here only:

- :mod:`.biofo`          Bio-FO: TinyFoA's equations with real weights and another head; convolutional layers
- :mod:`.feedback`       feedback alignment: FA, DFA, sDFA, and DRTP on convolutional networks
- :mod:`.monoforward`    Mono-Forward: each layer with a learned head
- :mod:`.lightff`        LightFF: forward-forward inference that stops early
- :mod:`.cwcomp`         CwComp: channels compete for the classes
- :mod:`.deeperforward`  DeeperForward: goodness as a mean, and shortcuts

Deeper networks:

- :mod:`.conv`           convolutions, batch norm, pooling, each with its gradient
- :mod:`.graph`          layers made of them, from their description
- :mod:`.giff`           GIFF: groups of such layers, each with its own loss

Letters: B batch, I inputs, O outputs, C classes, M slices per side. All functions return new arrays and leave
their arguments as they were. Floating-point results have the type of the arguments: float32 as in the paper,
or float64 where a test wants more digits.

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
