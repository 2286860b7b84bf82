#!/usr/bin/env python3
"""The reference of tests/train/svm.rs: scikit-learn's SVC on the first bundled MNIST digits.

    pip install scikit-learn        # made with scikit-learn 1.9.1
    python make.py                  # writes svm.json beside itself

Pixels are standardised by the mean and deviation of the training digits, as `--normalize standard` does. `decision` has the
values of all pairs of classes for the first test digits, in libsvm's order and sign (above 0 for the first class of the pair).
"""
import gzip, json
from pathlib import Path

import numpy as np
from sklearn.svm import SVC

here = Path(__file__).parent
data = here.parents[2] / "data" / "mnist"
read = lambda name, skip: np.frombuffer(gzip.open(data / name).read(), np.uint8, offset=skip)
TRAIN, TEST = 300, 200

x = read("train-images-idx3-ubyte.gz", 16)[: TRAIN * 784].reshape(TRAIN, 784) / 255.0
y = read("train-labels-idx1-ubyte.gz", 8)[:TRAIN]
t = read("t10k-images-idx3-ubyte.gz", 16)[: TEST * 784].reshape(TEST, 784) / 255.0
u = read("t10k-labels-idx1-ubyte.gz", 8)[:TEST]
mean, std = x.mean(), x.std()
x, t = (x - mean) / std, (t - mean) / std

cases = []
for c, gamma in [(1.0, "scale"), (10.0, "scale"), (0.5, 0.01)]:
    model = SVC(C=c, gamma=gamma, tol=1e-6, decision_function_shape="ovo").fit(x, y)
    cases.append({
        "c": c,
        "gamma": gamma,
        "gamma_value": model._gamma,
        "accuracy": model.score(t, u),
        "train_accuracy": model.score(x, y),
        "support_vectors": int(model.n_support_.sum()),
        "predicted": model.predict(t).tolist(),
        "decision": [[round(v, 7) for v in row] for row in model.decision_function(t[:5]).tolist()],
    })
(here / "svm.json").write_text(json.dumps({"train": TRAIN, "test": TEST, "cases": cases}) + "\n")
for case in cases:
    print({k: case[k] for k in ("c", "gamma", "accuracy", "support_vectors")})
