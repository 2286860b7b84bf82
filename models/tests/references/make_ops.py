#!/usr/bin/env python3
"""Writes ops.json beside it: operations and their gradients as PyTorch computes them in float64 (torch 2.15).

    python3 make_ops.py
"""
import json, pathlib
import torch
import torch.nn.functional as F

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
cases = []


def case(op, inputs, f, **options):
    """`inputs` become operands that are tracked; the gradients are those of the sum of the output times `weights`."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    output = f(*inputs)
    weights = torch.randn(output.shape)
    gradients = torch.autograd.grad((output * weights).sum(), inputs)
    pack = lambda t: {"shape": list(t.shape), "values": [round(v, 9) for v in t.detach().flatten().tolist()]}
    cases.append({"op": op, "options": options, "inputs": [pack(x) for x in inputs], "weights": pack(weights),
                  "output": pack(output), "gradients": [pack(g) for g in gradients]})
    return cases[-1]


x = torch.linspace(-6, 6, 41)
case("gelu", [x], lambda x: F.gelu(x))
case("gelu_tanh", [x], lambda x: F.gelu(x, approximate="tanh"))
case("quick_gelu", [x], lambda x: x * torch.sigmoid(1.702 * x))

x, w, b = torch.randn(5, 12), torch.randn(12), torch.randn(12)
case("layer_norm", [x, w, b], lambda x, w, b: F.layer_norm(x, (12,), w, b, 1e-6), eps=1e-6)

qkv = torch.randn(2, 5, 36)
def attention(qkv):
    q, k, v = qkv.reshape(2, 5, 3, 3, 4).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 5, 12)
case("attention_qkv", [qkv], attention, num_heads=3)

for smoothing in [0.0, 0.1]:
    labels = torch.tensor([3, 0, 6, 6])
    case("cross_entropy", [3 * torch.randn(4, 7)], lambda x: F.cross_entropy(x, labels, label_smoothing=smoothing),
         label_smoothing=smoothing, labels=labels.tolist())

for stride, padding in [(1, 1), (2, 0)]:
    x, w, b = torch.randn(2, 3, 6, 5), torch.randn(4, 3, 3, 2), torch.randn(4)
    case("conv2d", [x, w, b], lambda x, w, b: F.conv2d(x, w, b, stride, padding), stride=stride, padding=padding)

for kernel, stride, padding, ceil_mode in [(2, 2, 0, True), (3, 2, 1, True), (3, 2, 1, False), (2, 3, 1, True)]:
    case("max_pool2d", [torch.randn(1, 2, 7, 6).round(decimals=1)], lambda x: F.max_pool2d(x, kernel, stride, padding, 1, ceil_mode),
         kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)
case("avg_pool2d", [torch.randn(1, 2, 7, 6)], lambda x: F.avg_pool2d(x, 3, 2), kernel=3, stride=2)

for train in [True, False]:
    mean, var = torch.randn(3), torch.rand(3) + 0.5
    before = [mean.tolist(), var.tolist()]
    x, w, b = torch.randn(4, 3, 2, 3), torch.randn(3), torch.randn(3)
    made = case("batch_norm", [x, w, b], lambda x, w, b: F.batch_norm(x, mean, var, w, b, train, 0.1, 1e-5),
                train=train, momentum=0.1, eps=1e-5, running=before)
    made["running_after"] = [mean.tolist(), var.tolist()]

pathlib.Path(__file__).with_name("ops.json").write_text(json.dumps(cases) + "\n")
